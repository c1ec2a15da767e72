"""A federation of level "local": devices find their groups, and nobody else knows who is in which.

Groups are those of k-means by plain sums, adapters those of the plain integer sums of each cluster's slot, bit for bit.
"""

from __future__ import annotations

import logging
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.adapter import Adapter, Share
from edge_sdk.errors import PrivacyRefused
from edge_sdk.membership import RoundPlan, runner
from edge_sdk.privacy import Question, answer, nearest_centroid, places_of
from edge_sdk.secure_aggregation import decoded, from_bytes, layout_of, mean_of, sizes_of, vector_of
from edge_sdk.transport import Settings, create
from edge_sdk.wire import (
    Finished,
    Join,
    Masking,
    RoundStart,
    SignedStep,
    TrainingStats,
    Welcome,
    decode,
    decode_step,
    plan_id,
)
from tests.coordinator.played import Devices
from tests.integration.coordinators import Coordinator, killed_when_it_says, serve_once
from tests.integration.devices import Device, coarse_code, local_profile, profile
from tests.integration.local import choosing, code_of, plain_groups, write_local
from tests.integration.masked import PowerCutError, brought, check_same, initial, key_of


class Plain:
    """The plain vectors of devices, as they leave their training; each with its slot among so many."""

    def __init__(self) -> None:
        self.vectors: dict[tuple[str, bytes], tuple[bytes, int, int]] = {}  # by device and start
        self.masking: Masking | None = None

    def note(
        self,
        update: Adapter,
        start: Adapter,
        stats: TrainingStats,
        masking: Masking,
        share: Share,
        slot: int,
        slots: int,
    ) -> bytes:
        made = vector_of(update, start, stats, masking, share, slot, slots)
        self.vectors[threading.current_thread().name, key_of(start)] = made, slot, slots
        self.masking = masking
        return made

    def mean(self, start: Adapter, slot: int, share: Share = Share.BOTH) -> Adapter:
        """The adapter of a slot's cluster that the plain integer sum of all vectors from this start gives."""
        found = [made for (_, key), made in self.vectors.items() if key == key_of(start)]
        slots = {slots for _, _, slots in found}
        total = np.array([from_bytes(vector) for vector, _, _ in found]).sum(axis=0, dtype=np.uint32)
        assert self.masking is not None
        layout = layout_of(sizes_of(start), self.masking, share, slots.pop())
        return mean_of(start, [decoded(layout, total, len(found))], slot)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Plain:
    noted = Plain()
    monkeypatch.setattr(runner, "vector_of", noted.note)
    return noted


def check_groups(coordinator: Coordinator, members: list[Device]) -> list[int]:
    """Every device is in the group that k-means by plain sums gives it; return these."""
    found = places_of(coordinator.service.state.alone.centroids)
    epoch = coordinator.named("coordinator_started")[0]["epoch"]
    wanted = plain_groups([code_of(device) for device in members], epoch)
    assert found.tolist() == [list(centroid) for centroid in wanted.centroids]
    assert coordinator.named("clusters_found")[0]["counts"] == list(wanted.counts)
    clusters = [device.result.cluster for device in members if device.result and device.result.cluster is not None]
    assert clusters == [nearest_centroid(code_of(device), found) for device in members]
    return clusters


@pytest.mark.parametrize("method", ["fedit", "rolora"])
def test_devices_of_two_styles_find_their_groups_and_learn_in_them(
    embedded: str, tmp_path: Path, plain: Plain, method: str
) -> None:
    """A root round of all, then a round of two clusters in one sum; of these, each device takes all adapters home."""
    coordinator = Coordinator(write_local(tmp_path, embedded, rounds=2, root_rounds=1, method=method))
    members = [device.join() for device in choosing(embedded, tmp_path, 8)]
    coordinator.join()
    assert [device.error for device in members] == [None] * 8
    clusters = check_groups(coordinator, members)
    assert {(device.group, cluster) for device, cluster in zip(members, clusters, strict=True)} == {
        (members[0].group, clusters[0]), (members[1].group, clusters[1]),
    }  # fmt: skip
    assert clusters[0] != clusters[1]
    share = {"fedit": Share.BOTH, "rolora": Share.B}[method]
    check_same(brought(members[0], "root"), plain.mean(initial(0), 0, share))
    for device, cluster in zip(members, clusters, strict=True):
        for other in (0, 1):
            check_same(brought(device, f"cluster-{other}"), plain.mean(initial(1), other, share))
        check_same(brought(device, "cluster"), plain.mean(initial(1), cluster, share))
        assert device.result is not None
        assert (device.result.finished, device.result.updates, device.trained) == (True, 2, [1, 2])
    (counted,) = coordinator.named("clusters_counted")
    assert (counted["round"], sorted(counted["counts"]), counted["slots"]) == (2, [4, 4], [0, 1])
    closed = coordinator.named("round_closed")
    assert [(event["round"], event["updates"], event["missing"]) for event in closed] == [(1, 8, []), (2, 8, [])]
    for silent in ("refused", "update_counted", "sum_abandoned", "send_failed", "question_abandoned", "clusters"):
        assert coordinator.named(silent) == []


def test_a_slot_that_too_few_have_chosen_is_merged_before_anything_large_is_summed(
    embedded: str, tmp_path: Path, plain: Plain
) -> None:
    """Two of four devices of a style leave after the clusters were found: their two others share the slot of the rest.

    A newcomer chooses alone.
    """
    coordinator = Coordinator(write_local(tmp_path, embedded, rounds=2, grace=1.0))
    members = choosing(embedded, tmp_path, 8)
    for number in (1, 3):

        def leave(plan: RoundPlan, number: int = number) -> None:
            if plan.round == 2:
                raise PowerCutError

        members[number].before_training = leave
    coordinator.told(lambda event: event["event"] == "round_closed")
    newcomer = Device(8, embedded, tmp_path / "device-8", local=True).start()
    for device in (*members, newcomer):
        device.join()
    coordinator.join()
    first, second = coordinator.named("clusters_counted")
    assert (sorted(first["counts"]), first["slots"]) == ([4, 4], [0, 1])
    assert min(second["counts"]) == 2
    assert second["slots"] == [0, 0]
    assert newcomer.error is None
    assert newcomer.result is not None
    found = places_of(coordinator.service.state.alone.centroids)
    assert newcomer.result.cluster == nearest_centroid(code_of(newcomer), found)
    assert "question_asked" not in [event["event"] for event in newcomer.events]
    sent = [slots for _, _, slots in plain.vectors.values()]
    assert sorted(set(sent)) == [1, 2], "one slot in the second round"


def test_nobody_sees_a_code_or_a_cluster_of_a_device(
    embedded: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the coordinator's database, blobs or log, and not the broker. What is looked for can be found."""
    caplog.set_level(logging.DEBUG)
    path = write_local(tmp_path, embedded, rounds=1)
    heard: list[tuple[str, bytes]] = []
    listener = create(Settings(url=embedded, client_id="listener"))
    listener.connect(5.0)
    listener.subscribe("impasto/#", lambda topic, payload: heard.append((topic, payload)))
    answers: list[bytes] = []

    def noted(question: Question, code: bytes) -> object:
        made = answer(question, code)
        answers.append(made.tobytes())
        return made

    monkeypatch.setattr(runner, "answer", noted)
    command = [sys.executable, "-m", "coordinator.cli", "serve", str(path), "--once"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        members = [device.join() for device in choosing(embedded, tmp_path, 8)]
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    listener.close()
    assert [device.error for device in members] == [None] * 8
    files = sorted((tmp_path / "tastes.coordinator").rglob("*"))
    home = b"".join(file.read_bytes() for file in files if file.is_file())
    traffic = b"".join(topic.encode() + payload for topic, payload in heard)
    steps = [decode_step(said.step) for said in (decode(p) for t, p in heard if t.endswith("down/control"))
             if isinstance(said, SignedStep)]  # fmt: skip
    (centroids,) = {step.centroids for step in steps if isinstance(step, Finished)}
    assert centroids in home
    assert centroids in traffic
    codes = [code_of(device) for device in members]
    # As it is, and as it stands in answers to questions.
    secret = codes + [np.frombuffer(code, np.int8).astype("<i4").tobytes() for code in codes]
    assert all(any(needle in made for made in answers) for needle in secret[8:])
    for place in (home, traffic, output + caplog.text.encode()):
        assert not any(needle in place for needle in secret)
    # Steps of one round are the same for all, but for the time; reports have no cluster, and downloads are equal.
    starts = [step for step in steps if isinstance(step, RoundStart)]
    assert (
        len({(step.attempt, plan_id("tastes", step)) for step in starts}) == len({step.attempt for step in starts}) == 2
    )
    assert all(step.cluster is None for step in starts)
    ends = [step for step in steps if isinstance(step, Finished)]
    assert len({repr(step) for step in ends}) == 1
    assert not re.search(rb"device-\d is trained for cluster", output)
    sizes = {device.result.bytes_down for device in members if device.result}
    assert max(sizes) - min(sizes) < 12_000, "messages are repeated, adapters are fetched by all"


def test_a_device_that_is_gone_for_good_does_not_stop_the_clustering(embedded: str, tmp_path: Path) -> None:
    """It answers the first question, and dies. The next one is for devices that hide each other, and all take part."""
    coordinator = Coordinator(write_local(tmp_path, embedded, grace=1.0, patience=3.0))
    members = choosing(embedded, tmp_path, 8)
    coordinator.told(lambda event: event["event"] == "question_asked" and event["question"] == 2)
    gone = members[3]
    gone.stop()
    members.append(Device(8, embedded, tmp_path / "device-8", local=True).start())  # as many as the round begins with
    for device in members:
        device.join()
    coordinator.join()
    asked = coordinator.named("question_asked")
    later = [set(event["cohort"]) for event in asked if gone.name not in event["cohort"]]
    assert later, "the clustering went on without it"
    assert all(len(set(asked[0]["cohort"]) - company) >= 3 for company in later)
    staying = [device for device in members if device is not gone]
    assert all(device.error is None and device.result and device.result.updates == 1 for device in staying)
    (closed,) = coordinator.named("round_closed")
    assert closed["updates"] == 8, "those that were left out choose alone, and so does a newcomer"


def test_a_coordinator_that_is_killed_in_the_clustering_goes_on(embedded: str, tmp_path: Path, plain: Plain) -> None:
    """kill -9 as soon as it asks the second and the third question, and again when clusters are found."""
    path = write_local(tmp_path, embedded)
    members: list[Device] = []
    for said in ("question 2 ", "question 3 ", "among which devices choose"):
        with killed_when_it_says(path, said):
            members = members or choosing(embedded, tmp_path, 8)
    last = serve_once(path)
    assert "rounds done" in last
    clusters = []
    for device in members:
        device.join()
        assert device.error is None
        assert device.result is not None
        assert device.result.cluster is not None
        assert device.trained == [1]
        check_same(brought(device, "cluster"), plain.mean(initial(1), device.result.cluster))
        clusters.append(device.result.cluster)
    assert len(set(zip([device.group for device in members], clusters, strict=True))) == 2


def test_a_device_that_is_killed_at_every_step_of_the_clustering_is_in_all_of_it(embedded: str, tmp_path: Path) -> None:
    """kill -9 before and after each of its writes, one session after the other, until nobody kills it any more."""
    coordinator = Coordinator(write_local(tmp_path, embedded, devices=6))
    others = choosing(embedded, tmp_path, 5)
    program = [sys.executable, "-m", "tests.integration.dying_device", embedded, str(tmp_path / "device-5"), "5"]
    for at, when in [(1, "before"), (2, "after"), (3, "before"), (4, "after"), (5, "before"), (6, "after")]:
        command = [*program, str(at), when, "local"]
        died = subprocess.run(command, capture_output=True, text=True, timeout=100)
        assert died.returncode == -signal.SIGKILL, died.stderr
    last = subprocess.run(
        [*program, "0", "never", "local"], capture_output=True, text=True, timeout=100, check=True
    )  # fmt: skip
    for device in others:
        assert device.join().error is None
    coordinator.join()
    assert "updates: 1" in last.stdout
    assert coordinator.named("question_abandoned") == []
    assert {tuple(event["cohort"]) for event in coordinator.named("question_asked")} == {
        tuple(f"device-{number}" for number in range(6))
    }


def test_a_profile_with_a_code_or_of_another_level_is_refused_and_not_kept(embedded: str, tmp_path: Path) -> None:
    coordinator = Coordinator(write_local(tmp_path, embedded), once=False)
    coordinator.wait_for("coordinator_started")
    played = Devices(embedded)
    code = coarse_code("apples", 0)
    for name, changes in {
        "code": {"prompt_code": code},
        "pictures": {"picture_code": bytes(8), "picture_encoder": bytes(32)},
        "coarse": {"level": "coarse", "prompt_code": code},
        "basis": {"basis": bytes(32)},
    }.items():
        played.say(name, Join(profile=local_profile(0, **changes)))
        coordinator.told(lambda event, name=name: event["event"] == "refused" and event["device"] == name)
    played.say("plain", Join(profile=profile("apples", 0)))
    coordinator.told(lambda event: event["event"] == "refused" and event["device"] == "plain")
    played.say("good", Join(profile=local_profile(0)))
    played.hear(Welcome, {"good"})
    codes = {event["device"]: event["code"] for event in coordinator.named("refused")}
    assert codes == {
        "code": "PrivacyLevelMismatch", "pictures": "PrivacyLevelMismatch", "coarse": "PrivacyLevelMismatch",
        "plain": "PrivacyLevelMismatch", "basis": "PromptBasisMismatch",
    }  # fmt: skip
    coordinator.stop()
    files = sorted((tmp_path / "tastes.coordinator").rglob("*"))
    assert code not in b"".join(file.read_bytes() for file in files if file.is_file())
    played.transport.close()


def test_an_owner_who_allows_other_levels_only_says_nothing(embedded: str, tmp_path: Path) -> None:
    coordinator = Coordinator(write_local(tmp_path, embedded), once=False)
    device = Device(0, embedded, tmp_path / "device-0").start().join()
    assert isinstance(device.error, PrivacyRefused)
    assert "asks for codes of level 'local'" in str(device.error)
    coordinator.stop()
    assert coordinator.service.state.devices == {}
