"""A federation whose updates are summed under masks: real devices, brokers and disks.

What comes out is the plain integer sum of the devices' vectors, bit for bit, or nothing; and nobody but its device has
ever had an update.
"""

from __future__ import annotations

import logging
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from coordinator import config
from coordinator.store import Database
from edge_sdk import secure_aggregation as sums
from edge_sdk.adapter import Adapter, Share, beginning, from_bytes, to_bytes
from edge_sdk.errors import PrivacyRefused
from edge_sdk.membership import RoundPlan, TrainedUpdate, runner
from edge_sdk.secure_aggregation import (
    LARGEST,
    vector_of,
)
from edge_sdk.transport import Settings, create
from edge_sdk.wire import Masking, Signer, Sum, TrainingStats, decode, encode, new_key
from tests.coordinator.adapters import BASE_ID, SLOTS
from tests.coordinator.learners import Learner
from tests.integration.coordinators import Coordinator, killed_when_it_says, serve_once
from tests.integration.devices import Device
from tests.integration.masked import (
    Plain,
    PowerCutError,
    brought,
    check_same,
    initial,
    key_of,
    members_of,
    write_masked,
)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Plain:
    noted = Plain()
    monkeypatch.setattr(runner, "vector_of", noted.note)
    return noted


def test_a_federation_learns_the_plain_integer_mean(embedded: str, tmp_path: Path, plain: Plain) -> None:
    """A root round of six devices, then two clusters of three."""
    path = write_masked(tmp_path, embedded, rounds=2, clustering="prompt")
    coordinator = Coordinator(path)
    members = [device.join() for device in members_of(embedded, tmp_path, 6)]
    coordinator.join()
    everybody = [device.name for device in members]
    check_same(brought(members[0]), plain.mean(initial(0), everybody))
    for device in members:
        own = [other.name for other in members if other.group == device.group]
        check_same(brought(device, "cluster"), plain.mean(initial(1), own))
        assert device.result is not None
        assert (device.result.finished, device.result.updates, device.trained) == (True, 2, [1, 2])
        committed = [event for event in device.events if event["event"] == "update_committed"]
        assert [event["round"] for event in committed] == [1, 2]
    closed = coordinator.named("round_closed")
    assert [(event["round"], event["updates"], event["missing"]) for event in closed] == [(1, 6, []), (2, 6, [])]
    assert sorted(event["devices"] for event in coordinator.named("sum_complete")) == [3, 3, 6]
    trained = [plain.updates[name, key_of(initial(0))][1] for name in everybody]
    assert closed[0]["first_loss"] == pytest.approx(np.mean([stats.first_loss for stats in trained]), abs=1e-3)
    assert closed[0]["clipped"] == 0.0
    for silent in ("refused", "update_counted", "sum_abandoned", "send_failed"):
        assert coordinator.named(silent) == []
    database = Database(config.load(path).database, "tastes", BASE_ID)
    assert database.counted() == dict.fromkeys(everybody, 2), "as `impasto-coordinator status` shows them"
    assert database.updates() == [], "of which nothing is known but that they count"
    database.close()


def test_the_mean_is_that_of_the_updates_within_the_rounding(embedded: str, tmp_path: Path, plain: Plain) -> None:
    """Weights are the numbers of pictures."""
    coordinator = Coordinator(write_masked(tmp_path, embedded, devices=4))
    members = [device.join() for device in members_of(embedded, tmp_path, 4)]
    coordinator.join()
    found, start = brought(members[0]), initial(0)
    updates = [plain.updates[device.name, key_of(start)] for device in members]
    weights = np.array([stats.pictures for _, stats in updates], np.float64)
    assert weights.tolist() == [10, 11, 12, 13]
    # A number is rounded by less than one step of its scale, and so is each weight.
    step = 8.0 / LARGEST * 4 * 64 / weights.sum()
    for name, factors in found.layers.items():
        for factor in "ab":
            parts = [np.float64(getattr(update.layers[name], factor)) for update, _ in updates]
            wanted = np.average(parts, axis=0, weights=weights)
            np.testing.assert_allclose(getattr(factors, factor), wanted, rtol=1e-5, atol=2 * step)


def test_those_who_are_lost_at_the_worst_moment_are_not_in_the_sum(embedded: str, tmp_path: Path, plain: Plain) -> None:
    """Two of seven have said whom they mask for, and die before they hand in."""
    plain.dying = {"device-1", "device-4"}
    coordinator = Coordinator(write_masked(tmp_path, embedded, devices=7, grace=1.0))
    members = [device.join() for device in members_of(embedded, tmp_path, 7)]
    coordinator.join()
    lost, staying = [members[1], members[4]], [d for d in members if d.number not in (1, 4)]
    assert all(isinstance(device.error, PowerCutError) for device in lost)
    for device in staying:
        check_same(brought(device), plain.mean(initial(0), [other.name for other in staying]))
    (complete,) = coordinator.named("sum_complete")
    assert (complete["devices"], complete["dropped"]) == (5, ["device-1", "device-4"])
    (closed,) = coordinator.named("round_closed")
    assert (closed["updates"], closed["missing"]) == (5, ["device-1", "device-4"])


def test_too_many_losses_abandon_the_sum_and_another_attempt_is_made(
    embedded: str, tmp_path: Path, plain: Plain
) -> None:
    """Four of seven die: nothing is learnt. With the homes that they left they come back, and nobody trains again."""
    plain.dying = {f"device-{number}" for number in range(4)}
    coordinator = Coordinator(write_masked(tmp_path, embedded, devices=7, grace=1.0))
    members = members_of(embedded, tmp_path, 7)
    for device in members[:4]:
        assert isinstance(device.join().error, PowerCutError)
    abandoned = coordinator.told(lambda event: event["event"] == "sum_abandoned")
    assert (abandoned["code"], abandoned["needed"]) == ("TooFewDevices", 4)
    assert "3 of 7 devices have handed in" in abandoned["reason"]
    again = members_of(embedded, tmp_path, 4)
    everybody = [device.join() for device in [*again, *members[4:]]]
    coordinator.join()
    # Whoever was there in time is in the sum of the second attempt, or of a later one.
    (closed,) = coordinator.named("round_closed")
    summed = sorted({device.name for device in everybody} - set(closed["missing"]))
    assert closed["round"] == 1
    assert closed["updates"] == len(summed) >= 3
    for device in everybody:
        check_same(brought(device), plain.mean(initial(0), summed))
        assert device.trained == [] if device in again else [1]


def test_a_device_that_dies_before_it_hands_in_resumes_its_sum(embedded: str, tmp_path: Path, plain: Plain) -> None:
    """It knows its keys and its neighbours' shares again, and is in the sum."""
    plain.dying = {"device-2"}
    coordinator = Coordinator(write_masked(tmp_path, embedded, devices=4))
    members = members_of(embedded, tmp_path, 4)
    assert isinstance(members[2].join().error, PowerCutError)
    members[2] = Device(2, embedded, tmp_path / "device-2").start()
    for device in members:
        device.join()
    coordinator.join()
    for device in members:
        check_same(brought(device), plain.mean(initial(0), [other.name for other in members]))
    assert members[2].trained == []
    assert [event["dropped"] for event in coordinator.named("sum_complete")] == [[]]


def test_the_coordinator_restarts_while_vectors_come_in(
    embedded: str, tmp_path: Path, plain: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_masked(tmp_path, embedded, devices=4)
    first = Coordinator(path)
    restarted = threading.Event()
    note = plain.note

    def slow(
        update: Adapter, start: Adapter, stats: TrainingStats, masking: Masking, share: Share, *slots: int
    ) -> bytes:
        if threading.current_thread().name == "device-3":
            assert restarted.wait(60)
        return note(update, start, stats, masking, share)

    monkeypatch.setattr(runner, "vector_of", slow)
    members = members_of(embedded, tmp_path, 4)
    first.told(lambda event: event["event"] == "sum_begun")
    first.stop()
    second = Coordinator(path)
    second.wait_for("coordinator_started")
    restarted.set()
    for device in members:
        device.join()
    second.join()
    for device in members:
        check_same(brought(device), plain.mean(initial(0), [other.name for other in members]))
        assert device.trained == [1]
    assert second.named("sum_begun") == []
    assert [event["devices"] for event in second.named("sum_complete")] == [4]


@pytest.mark.parametrize(("method", "shares"), [("ffa", "bbb"), ("rolora", "bba")])
def test_where_one_factor_is_trained_its_sum_alone_is_made_and_goes_on_after_a_restart(
    embedded: str, tmp_path: Path, plain: Plain, monkeypatch: pytest.MonkeyPatch, method: str, shares: str
) -> None:
    """A root round and two cluster rounds; the coordinator restarts while the vectors of the last one come in."""
    path = write_masked(tmp_path, embedded, rounds=3, devices=4, method=method)
    first, restarted, note = Coordinator(path), threading.Event(), plain.note
    made: dict[str, list[int]] = {}

    def slow(
        update: Adapter, start: Adapter, stats: TrainingStats, masking: Masking, share: Share, *slots: int
    ) -> bytes:
        name = threading.current_thread().name
        lengths = made.setdefault(name, [])
        if len(lengths) == 2 and name == "device-3":
            assert restarted.wait(60)
        vector = note(update, start, stats, masking, share)
        lengths.append(len(vector))
        return vector

    monkeypatch.setattr(runner, "vector_of", slow)

    def learns(group: str, number: int, plan: RoundPlan) -> TrainedUpdate:
        return Learner(number).train(plan)

    members = [Device(number, embedded, tmp_path / f"device-{number}", learns=learns).start() for number in range(4)]
    first.told(lambda event: event["event"] == "sum_begun" and event["round"] == 3)
    first.stop()
    second = Coordinator(path)
    second.wait_for("coordinator_started")
    restarted.set()
    for device in members:
        device.join()
    second.join()
    everybody, trained = [device.name for device in members], [Share(share) for share in shares]
    root = plain.mean(initial(0), everybody, trained[0])
    then = beginning(stored_as(plain.mean(initial(1), everybody, trained[1])), SLOTS, 4, 1)
    cluster = plain.mean(then, everybody, trained[2])
    numbers = [sum(getattr(f, share).size for f in initial(0).layers.values()) for share in shares]
    for device in members:
        check_same(brought(device), root)
        check_same(brought(device, "cluster"), cluster)
        assert device.trained == [1, 2, 3]
        assert made[device.name] == [4 * (2 + 4 + 1 + count) for count in numbers], "half of both factors"
    for share, before, after in zip(shares[::2], (initial(0), then), (root, cluster), strict=True):
        moved = {factor for factor in "ab" if not same(before, after, factor)}
        assert moved == {share}
    assert second.named("sum_begun") == []
    assert [event["round"] for event in [*first.named("round_closed"), *second.named("round_closed")]] == [1, 2, 3]


def stored_as(adapter: Adapter) -> Adapter:
    """An adapter as it comes back from its file."""
    return from_bytes(to_bytes(adapter))


def same(one: Adapter, other: Adapter, factor: str) -> bool:
    return all(
        np.array_equal(getattr(one.layers[name], factor), np.float32(getattr(other.layers[name], factor)))
        for name in one.layers
    )


def test_a_cluster_with_too_few_devices_learns_nothing_and_says_how_many_it_takes(
    embedded: str, tmp_path: Path, plain: Plain
) -> None:
    """Of two clusters of three, one loses a device after the first round; the other one goes on."""
    coordinator = Coordinator(write_masked(tmp_path, embedded, rounds=2, clustering="prompt"))
    members = [
        Device(number, embedded, tmp_path / f"device-{number}").start(**({"rounds": 1} if number == 1 else {}))
        for number in range(6)
    ]
    for device in members:
        device.join()
    coordinator.join()
    (abandoned,) = coordinator.named("sum_abandoned")
    assert (abandoned["code"], abandoned["devices"], abandoned["needed"]) == ("TooFewDevices", 2, 3)
    staying = ["device-0", "device-2", "device-4"]
    check_same(brought(members[0], "cluster"), plain.mean(initial(1), staying))
    closed = coordinator.named("round_closed")[-1]
    assert (closed["updates"], closed["missing"]) == (3, ["device-1", "device-3", "device-5"])
    for number in (3, 5):
        result = members[number].result
        assert result is not None
        assert result.updates == 1
        assert "update_refused" in [event["event"] for event in members[number].events]


def test_nobody_sees_an_update(embedded: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not the coordinator's memory, database, blobs or log, and not the broker. What is looked for can be found."""
    caplog.set_level(logging.DEBUG)
    path = write_masked(tmp_path, embedded, devices=4)
    heard: list[bytes] = []
    listener = create(Settings(url=embedded, client_id="listener"))
    listener.connect(5.0)
    listener.subscribe("impasto/#", lambda topic, payload: heard.append(topic.encode() + payload))
    command = [sys.executable, "-m", "coordinator.cli", "serve", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        secret: dict[str, list[bytes]] = {}
        guard = threading.Lock()

        def noted(
            update: Adapter, start: Adapter, stats: TrainingStats, masking: Masking, share: Share, *slots: int
        ) -> bytes:
            made = vector_of(update, start, stats, masking, share, *slots)
            with guard:
                secret[threading.current_thread().name] = needles(update, start, made)
            return made

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runner, "vector_of", noted)
            members = [device.join() for device in members_of(embedded, tmp_path, 4)]
        listener.close()
        memory = memory_of(process.pid)
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=30)
    home = b"".join(
        file.read_bytes() for file in sorted((tmp_path / "tastes.coordinator").rglob("*")) if file.is_file()
    )
    log = output + caplog.text.encode() + repr([device.events for device in members]).encode()
    places = {"memory": memory, "home": home, "traffic": b"".join(heard), "log": log}
    mean = brought(members[0]).layers
    shared = [factors.a.tobytes()[:64] for factors in mean.values()]
    for name in ("memory", "home", "traffic"):
        assert all(needle in places[name] for needle in shared), f"the mean is in {name}, so that it would be found"
    assert len(secret) == 4
    for device, wanted in secret.items():
        assert len(wanted) == 10
        for name, place in places.items():
            assert not any(needle in place for needle in wanted), f"{name} has the update of {device}"


def needles(update: Adapter, start: Adapter, vector: bytes) -> list[bytes]:
    """Pieces of an update, of its change, and of its plain vector."""
    found = [vector[24:88], vector[-64:]]
    for name, new in sorted(update.layers.items()):
        old = start.layers[name]
        found += [new.a.tobytes()[:64], new.b.tobytes()[:64]]
        found += [(new.a - old.a).tobytes()[:64], (np.float64(new.b) - np.float64(old.b)).tobytes()[:64]]
    return found


def memory_of(process: int) -> bytes:
    """All memory of a process that it may write."""
    parts = []
    folder = Path(f"/proc/{process}")
    with (folder / "maps").open() as maps, (folder / "mem").open("rb", 0) as memory:
        for line in maps:
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if found and "[v" not in line:
                first, last = (int(number, 16) for number in found.groups())
                memory.seek(first)
                try:
                    parts.append(memory.read(last - first))
                except OSError:  # a guard page
                    continue
    return b"".join(parts)


def noise(vector: bytes) -> bytes:
    return np.random.default_rng(1).bytes(len(vector))


def without_weight(vector: bytes) -> bytes:
    """A vector that takes away more weight than the others have."""
    words = np.frombuffer(vector, "<i4").copy()
    words[6] = -LARGEST
    return words.tobytes()


@pytest.mark.parametrize("lie", [noise, without_weight])
def test_a_vector_that_is_none_is_noticed_and_nothing_is_learnt(
    embedded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: Callable[[bytes], bytes]
) -> None:
    """It cannot be told apart while it is masked: the sum as a whole shows it."""

    def made(
        update: Adapter, start: Adapter, stats: TrainingStats, masking: Masking, share: Share, *slots: int
    ) -> bytes:
        vector = vector_of(update, start, stats, masking, share, *slots)
        return lie(vector) if threading.current_thread().name == "device-2" else vector

    monkeypatch.setattr(runner, "vector_of", made)
    coordinator = Coordinator(write_masked(tmp_path, embedded, rounds=2, devices=4))
    members = [device.join() for device in members_of(embedded, tmp_path, 4)]
    coordinator.join()
    failed = coordinator.named("round_failed")
    assert [(event["round"], event["code"]) for event in failed] == [(1, "MaskedSumError"), (2, "MaskedSumError")]
    assert all("MasksLeft: The sum is not one of 4 devices' vectors" in event["reason"] for event in failed)
    assert all(device.error is None and device.result and device.result.updates == 0 for device in members)
    assert coordinator.service.state.root.start is None


def test_who_may_write_everywhere_cannot_speak_for_the_coordinator(embedded: str, tmp_path: Path, plain: Plain) -> None:
    """A roster of the broker's own devices would show a device's update to them: it is not signed."""
    coordinator = Coordinator(write_masked(tmp_path, embedded, devices=4))
    forger = create(Settings(url=embedded, client_id="forger"))
    forger.connect(5.0)
    other = Signer(new_key(), "tastes")
    hurt = threading.Event()

    def forge(topic: str, payload: bytes) -> None:
        said = decode(payload)
        if isinstance(said, Sum) and not hurt.is_set():
            hurt.set()
            numbers = {key: getattr(message := sums.decode(said.content), key) for key in ("epoch", "round", "attempt")}
            assert isinstance(message, sums.Advertise)
            roster = sums.Roster(**numbers, neighbours=2, threshold=2, devices=[message.advertisement] * 3)
            content = Sum(content=sums.encode(roster))
            for forged in (content, other.signed_sum(content, "device-0", 2**50)):
                forger.publish("impasto/1/tastes/dev/device-0/down/control", encode(forged))

    forger.subscribe("impasto/1/tastes/dev/device-0/up/control", forge)
    members = [device.join() for device in members_of(embedded, tmp_path, 4)]
    coordinator.join()
    forger.close()
    assert hurt.is_set()
    refused = [event["code"] for event in members[0].events if event["event"] == "sum_refused"]
    assert refused.count("SignatureInvalid") == 2
    check_same(brought(members[0]), plain.mean(initial(0), [device.name for device in members]))


def test_nothing_is_left_of_the_vectors_after_their_round(embedded: str, tmp_path: Path) -> None:
    path = write_masked(tmp_path, embedded, devices=4)
    coordinator = Coordinator(path)
    for device in members_of(embedded, tmp_path, 4):
        assert device.join().error is None
    coordinator.join()
    kept = {file.name for file in (tmp_path / "tastes.coordinator" / "blobs").rglob("*") if len(file.name) == 64}
    assert kept == coordinator.service.state.blobs()


def test_a_coordinator_that_is_killed_between_any_two_exchanges_goes_on(
    embedded: str, tmp_path: Path, plain: Plain
) -> None:
    """kill -9 as soon as it says that the sum has begun, and again as soon as it says that it is complete."""
    path = write_masked(tmp_path, embedded, devices=4)
    members: list[Device] = []
    for said in ("masked sum of 4 devices", "4 devices are in it"):
        with killed_when_it_says(path, said):
            members = members or members_of(embedded, tmp_path, 4)
    last = serve_once(path)
    for device in members:
        check_same(brought(device.join()), plain.mean(initial(0), [other.name for other in members]))
        assert device.trained == [1]
    assert "rounds done" in last


@pytest.mark.parametrize("masked", [True, False])
def test_an_owner_may_allow_masked_sums_only(embedded: str, tmp_path: Path, masked: bool) -> None:
    """A federation that asks for updates by themselves hears nothing of this device."""
    path = write_masked(tmp_path, embedded, devices=3)
    path.write_text(path.read_text().replace("masked = true", f"masked = {str(masked).lower()}"))
    coordinator = Coordinator(path, once=masked)
    careful = Device(0, embedded, tmp_path / "device-0", masked_only=True).start()
    others = [Device(number, embedded, tmp_path / f"device-{number}").start() for number in (1, 2)]
    careful.join()
    if masked:
        assert careful.error is None
        coordinator.join()
    else:
        assert isinstance(careful.error, PrivacyRefused)
        assert "asks for each update by itself" in str(careful.error)
        assert careful.trained == []
        coordinator.wait_for("device_joined", 2)
        assert {event["device"] for event in coordinator.named("device_joined")} == {"device-1", "device-2"}
        coordinator.stop()
    for device in others:
        device.stop()
        device.join()


def test_a_device_that_is_killed_at_every_step_of_its_sums_is_in_all_of_them(embedded: str, tmp_path: Path) -> None:
    """kill -9 before and after each of its writes, one session after the other, until nobody kills it any more."""
    coordinator = Coordinator(write_masked(tmp_path, embedded, rounds=6, devices=4))
    others = [Device(number, embedded, tmp_path / f"device-{number}").start() for number in (0, 1, 2)]
    program = [sys.executable, "-m", "tests.integration.dying_device", embedded, str(tmp_path / "device-3"), "3"]
    for at, when in [
        (1, "before"),
        (1, "after"),
        (2, "before"),
        (3, "after"),
        (4, "before"),
        (5, "after"),
        (6, "before"),
    ]:
        died = subprocess.run([*program, str(at), when], capture_output=True, text=True, timeout=100)
        assert died.returncode == -signal.SIGKILL, died.stderr
    last = subprocess.run([*program, "0", "never"], capture_output=True, text=True, timeout=100, check=True)
    for device in others:
        assert device.join().error is None
    coordinator.join()
    assert "updates:" in last.stdout
    closed = coordinator.named("round_closed")
    assert [(event["round"], event["updates"], event["missing"]) for event in closed] == [
        (n, 4, []) for n in range(1, 7)
    ]
    assert coordinator.named("sum_abandoned") == []
