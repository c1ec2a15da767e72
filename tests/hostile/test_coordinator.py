"""A coordinator on a real broker, and peers that say what they must not: refused by name, counted, nothing else."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from coordinator.config import load
from coordinator.identity.keys import Keys
from coordinator.rounds import State
from coordinator.store import Database
from edge_sdk.adapter import Adapter, Factors, to_bytes
from edge_sdk.errors import PayloadTooLarge
from edge_sdk.secure_aggregation import Reveal, encode
from edge_sdk.transport.memory import MemoryBroker
from edge_sdk.wire import messages as m
from edge_sdk.wire.transfer import Sender, encode_chunk, make_manifest
from tests.coordinator.adapters import BASE_ID, random_adapter
from tests.coordinator.played import TOPICS, Devices
from tests.hostile.payloads import CHUNKS, MESSAGES, SUMS, packed
from tests.integration.coordinators import Coordinator, write_federation
from tests.integration.devices import profile
from tests.transport.brokers import Mosquitto
from tests.wire.test_messages import EXAMPLES

MAX_DEVICES = 6
LARGEST = 300_000  # bytes of a packet that the broker lets through: more than the protocol does


class Peers(Devices):
    """Any number of devices of a coordinator, and raw bytes on any topic."""

    def __init__(self, url: str, coordinator: Coordinator) -> None:
        super().__init__(url, LARGEST)
        self.coordinator = coordinator

    @property
    def state(self) -> State:
        return self.coordinator.service.state

    def send(self, device: str, payload: bytes) -> None:
        self.transport.publish(TOPICS.control(device, "up"), payload)

    def join(self, *names: str) -> None:
        """As devices do that show presence."""
        for name in names:
            self.transport.publish(TOPICS.presence(name), m.encode(m.Presence(online=True, epoch=1)), retain=True)
            self.say(name, m.Join(profile=profile("apples", 1)))
        self.hear(m.Welcome, set(names))

    def refusal(self, device: str, about: str | None = None) -> str:
        """The code of the next one, or of the next one about that."""
        while True:
            (refused,) = self.hear(m.Refused, {device})
            if about in (None, refused.about):
                return str(refused.code)

    def refusals(self, device: str) -> list[str]:
        """The codes that the coordinator has reported, once it has dealt with all that was said."""
        self.join("witness")
        return [event["code"] for event in self.coordinator.named("refused") if event["device"] == device]

    def offer_content(self, device: str, data: bytes, **changes: Any) -> m.Offer:
        """Offer and serve any bytes, with changes to their manifest."""
        manifest = replace(make_manifest(data, "update", "update"), **changes)
        self._senders[manifest.sha256] = Sender(data, manifest)
        offer = m.Offer(
            round=1, attempt=1, manifest=manifest, pictures=10, first_loss=1.0, last_loss=0.5, train_seconds=1.0
        )
        self.say(device, offer)
        return offer


def start(folder: Path, broker: Mosquitto, devices: int, more: str = "") -> Peers:
    path = write_federation(folder, broker.url, rounds=3, more=more, devices=devices)
    coordinator = Coordinator(path, once=False)
    coordinator.wait_for("coordinator_started")
    return Peers(broker.url, coordinator)


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    """A round that is open for three devices; a fourth one has come too late for it."""
    folder = tmp_path_factory.mktemp("hostile")
    with Mosquitto(folder, f"max_packet_size {LARGEST}") as broker:
        peers = start(folder, broker, 3, f"max_devices = {MAX_DEVICES}\n")
        cohort = ("witness", "honest", "hostile")
        peers.join(*cohort)
        peers.hear(m.RoundStart, set(cohort))
        peers.join("late")
        yield peers
        peers.transport.close()
        peers.coordinator.stop()


def test_garbage(peers: Peers) -> None:
    before, known = peers.state, len(peers.refusals("hostile"))
    sent = {name: payload for name, payload in MESSAGES.items() if 0 < len(payload) <= m.MAX_MESSAGE}
    assert len(sent) >= 60
    for payload in sent.values():
        peers.send("hostile", payload)
    assert [peers.refusal("hostile") for _ in sent] == ["MessageInvalid"] * len(sent)
    assert peers.refusals("hostile")[known:] == ["MessageInvalid"] * len(sent)
    assert peers.state == before


def test_an_answer_to_a_question_that_nobody_has_asked(peers: Peers) -> None:
    """Round 0 is of questions, which this federation has not."""
    before = peers.state
    peers.send("hostile", packed("offer", round=0))
    assert peers.refusal("hostile") == "OfferInvalid"
    assert peers.state == before


def test_garbage_in_masked_sums_and_sums_that_nobody_makes(peers: Peers) -> None:
    before, known = peers.state, len(peers.refusals("hostile"))
    sent = [
        *(m.Sum(content=content) for content in SUMS.values()),
        m.SignedSum(epoch=1, content=b"", signature=bytes(64)),
    ]
    for message in sent:
        peers.say("hostile", message)
    assert [peers.refusal("hostile") for _ in sent] == ["MessageInvalid"] * len(sent)
    late = Reveal(epoch=1, round=1, attempt=1, number=bytes(16))
    peers.say("hostile", m.Sum(content=encode(late)))
    assert peers.refusal("hostile") == "AttemptMismatch"
    assert len(peers.refusals("hostile")) == known + len(sent) + 1
    assert peers.state == before


def test_what_the_broker_does_not_let_through_is_not_even_sent(peers: Peers) -> None:
    with pytest.raises(PayloadTooLarge):
        peers.send("hostile", MESSAGES["a megabyte"])


def test_what_is_larger_than_a_message_is_refused_on_arrival(peers: Peers, caplog: pytest.LogCaptureFixture) -> None:
    """The broker lets it through up to its own limit; the receiver keeps to the limit that it has announced."""
    before, known = peers.state, len(peers.refusals("hostile"))
    peers.send("hostile", MESSAGES["one byte too many"])
    peers.transport.publish(TOPICS.chunks("hostile", "up"), bytes(m.MAX_CHUNK + 1))
    peers.transport.publish(TOPICS.chunks("hostile", "up"), bytes(200_000))
    assert len(peers.refusals("hostile")) == known
    assert "PayloadTooLarge" in caplog.text
    assert peers.state == before


def test_garbage_of_strangers_is_counted_and_not_answered(peers: Peers) -> None:
    before = peers.state
    for payload in (b"\xc1", b"{}", m.encode(EXAMPLES[0])[:-1]):
        peers.send("nobody", payload)
    assert peers.refusals("nobody") == ["MessageInvalid"] * 3
    peers.say("nobody", EXAMPLES[4])
    assert peers.refusal("nobody") == "UnknownDevice"
    assert peers.state == before


def test_messages_of_others_and_on_the_wrong_topic(peers: Peers) -> None:
    before, known = peers.state, len(peers.refusals("hostile"))
    forged = [m.Welcome, m.RoundStart, m.RoundDone, m.Finished, m.CoordinatorState, m.Presence, m.Forgotten]
    for example in EXAMPLES:
        if type(example) in forged:
            peers.say("hostile", example)
        elif isinstance(example, m.Join | m.Leave | m.Offer | m.Forget):
            peers.transport.publish(TOPICS.presence("hostile"), m.encode(example))
    codes = [peers.refusal("hostile") for _ in range(len(forged) + 4)]
    assert codes == ["MessageInvalid"] * len(codes) == peers.refusals("hostile")[known:]
    assert peers.state == before


def test_chunks_that_are_none(peers: Peers) -> None:
    before = peers.state
    peers.transport.publish(TOPICS.chunks("hostile", "up"), b"")  # no message at all: nobody is told
    for name in ("a head alone", "a short head"):
        peers.transport.publish(TOPICS.chunks("hostile", "up"), CHUNKS[name])
        assert peers.refusal("hostile") == "TransferError"
    assert peers.state == before


def test_offers_that_do_not_belong(peers: Peers) -> None:
    before = peers.state
    good = peers.offer("late", random_adapter(3), serve=False)
    assert peers.refusal("late") == "NotInCohort"
    for code, offer in {
        "FutureUpdate": replace(good, round=2),
        "UpdateTooLarge": replace(good, manifest=replace(good.manifest, size=10**8)),
        "OfferInvalid": replace(good, manifest=replace(good.manifest, role="root")),
    }.items():
        peers.say("hostile", offer)
        assert peers.refusal("hostile") == code
    assert peers.state == before


def test_an_update_counts_once_however_often_it_comes(peers: Peers) -> None:
    offer = peers.offer("honest", random_adapter(1))
    for _ in range(3):
        peers.say("honest", offer)
        assert peers.hear(m.Committed, {"honest"}) == [m.Committed(sha256=offer.manifest.sha256)]
    peers.offer("honest", random_adapter(2))
    assert peers.refusal("honest") == "DuplicateUpdate"
    counted = peers.coordinator.named("update_counted")
    assert [event["device"] for event in counted].count("honest") == 1


def test_a_content_that_is_not_what_was_promised_and_no_end_of_them(peers: Peers) -> None:
    """Each takes a place in the queue and is pulled three times; a round takes at most eight times the largest size."""
    before, known = peers.state, len(peers.refusals("hostile"))
    for number, code in enumerate([*3 * ["TransferError"], "TooMuchStorage"]):
        offer = peers.offer_content("hostile", bytes(68_000), sha256=f"{number:064x}")
        assert peers.refusal("hostile", offer.manifest.sha256) == code
    assert peers.refusals("hostile")[known:] == [*3 * ["TransferError"], "TooMuchStorage"]
    assert before.current
    assert peers.state.current == replace(
        before.current, refused={**before.current.refused, "hostile": "TooMuchStorage"}
    )


def test_a_content_that_is_no_adapter(peers: Peers) -> None:
    offer = peers.offer_content("witness", b"not an adapter")
    assert peers.refusal("witness") == "AdapterFormatError"
    peers.say("witness", offer)
    # With that the round is over, if all others have delivered or been refused.
    assert peers.refusal("witness") in ("DuplicateUpdate", "StaleUpdate")


def test_a_federation_that_is_full(peers: Peers) -> None:
    for number in range(MAX_DEVICES - len(peers.state.devices)):
        peers.join(f"one-more-{number}")
    before = peers.state
    peers.say("one-too-many", m.Join(profile=profile("apples", 1)))
    assert peers.refusal("one-too-many") == "FederationFull"
    peers.join("late")
    assert peers.state == before


def test_names_that_fill_a_fresh_federation(tmp_path: Path) -> None:
    """They kept all others out, even after `revoke` and a restart."""
    with MemoryBroker() as broker:
        path = write_federation(tmp_path, broker.url, rounds=1, more="max_devices = 4\n", devices=4)
        path.write_text(path.read_text().replace("grace = 20.0", "grace = 0.2"))
        coordinator, played = Coordinator(path), Devices(broker.url)
        coordinator.wait_for("coordinator_started")
        names = [f"name-{number}" for number in range(4)]
        for name in names:
            played.say(name, m.Join(profile=profile("apples", 1)))
        played.hear(m.Welcome, set(names))
        played.say("wrong", m.Join(profile=profile("apples", 1, base_id="another")))
        (refused,) = played.hear(m.Refused, {"wrong"})
        assert refused.code in ("BaseModelMismatch", "FederationFull")
        assert set(coordinator.service.state.devices) == set(names), "who cannot take part takes no place"
        honest = [f"honest-{number}" for number in range(4)]
        for name in honest:
            said = played.transport.publish
            said(TOPICS.presence(name), m.encode(m.Presence(online=True, epoch=1)), retain=True)
            while not joined_at_last(played, name):
                pass
        started = played.hear(m.RoundStart, set(honest))
        assert len(started) == 4
        coordinator.wait_for("device_forgotten", 4)
        assert set(coordinator.service.state.devices) == set(honest)
        assert {event["device"] for event in coordinator.named("device_forgotten")} == set(names)
        played.say("one-too-many", m.Join(profile=profile("apples", 1)))
        (refused,) = played.hear(m.Refused, {"one-too-many"})
        assert refused.code == "FederationFull"
        coordinator.stop()
        database = Database(load(path).database, "tastes", BASE_ID)
        assert set(database.profiles()) == set(honest)
        database.close()
        played.transport.close()


def joined_at_last(played: Devices, name: str) -> bool:
    """Return True if there was room; there is some when the grace of another name is over."""
    played.say(name, m.Join(profile=profile("apples", 1)))
    while True:
        device, message = played.heard.get(timeout=60)
        if device == name and isinstance(message, m.Welcome | m.Refused):
            return isinstance(message, m.Welcome)


def test_late_repeated_and_stale(tmp_path: Path) -> None:
    """Harmless messages are counted as well."""
    with Mosquitto(tmp_path) as broker:
        peers = start(tmp_path, broker, 1)
        peers.join("witness")
        peers.hear(m.RoundStart, {"witness"})
        for epoch in (9, 8):  # a birth, and the late death of the session before
            presence = m.Presence(online=epoch == 9, epoch=epoch)
            peers.transport.publish(TOPICS.presence("witness"), m.encode(presence))
        data = to_bytes(random_adapter(1))
        manifest = make_manifest(data, "update", "update", 1024)
        assert manifest.chunks > 1
        peers.say("witness", m.Offer(
            round=1, attempt=1, manifest=manifest, pictures=1, first_loss=1.0, last_loss=0.5, train_seconds=1.0
        ))  # fmt: skip
        peers.hear(m.Pull, {"witness"})
        indices = [0, 0, *range(1, manifest.chunks), 0]  # one twice, and one when all is there
        for index in indices:
            chunk = encode_chunk(manifest.sha256, index, data[1024 * index : 1024 * (index + 1)])
            peers.transport.publish(TOPICS.chunks("witness", "up"), chunk)
        peers.transport.publish(TOPICS.chunks("nobody", "up"), chunk)
        sha256, home = manifest.sha256, load(tmp_path / "tastes.toml").home
        old = Keys(home, "tastes").signer.state(online=True, epoch=1, base_id=BASE_ID, level="plain")
        peers.say("nobody", m.Pull(sha256=sha256, missing=b"\x01", credit=1))
        peers.say("nobody", m.Committed(sha256=sha256))
        peers.say("nobody", m.Refused(code="x", reason="x", about=sha256))
        peers.say("nobody", m.Leave())
        peers.transport.publish(TOPICS.presence("nobody"), m.encode(m.Presence(online=True, epoch=1)))
        peers.transport.publish(TOPICS.coordinator_state, m.encode(old))
        peers.hear(m.RoundStart, {"witness"})
        peers.offer("witness", random_adapter(5))  # of round 1 again
        assert peers.refusal("witness") == "StaleUpdate"
        assert peers.refusals("witness") == ["StaleUpdate"]
        assert peers.state.devices["witness"].until is None
        peers.transport.close()
        peers.coordinator.stop()
    status = peers.coordinator.named("status")[-1]
    assert status["ignored"] == {
        "RepeatedChunk": 1,
        "StaleCoordinator": 1,
        "StalePresence": 1,
        "StrangersLeave": 1,
        "StrangersPresence": 2,
        "StrangersTransfer": 3,
        "UnaskedChunk": 2,
    }
    assert status["messages"]["up"]["chunk"][0] == len(indices) + 1
    assert status["messages"]["up"]["offer"][0] == 2


def test_a_device_that_says_too_much_is_cut_off_and_told_once(tmp_path: Path) -> None:
    # Else the broker drops what a busy coordinator has not taken yet.
    with Mosquitto(tmp_path, "max_queued_messages 5000") as broker:
        peers = start(tmp_path, broker, 3, "device_messages = 100\n")
        peers.join("loud", "witness")
        said, strangers = 300, 1500
        for _ in range(said):
            peers.say("loud", m.Leave())
        for number in range(strangers):  # names that nobody has
            peers.say(f"nobody-{number}", m.Leave())
        assert peers.refusal("loud", "leave") == "HasLeft"
        assert peers.refusal("loud") == "TooManyMessages"
        peers.join("witness")
        peers.transport.close()
        peers.coordinator.stop()
        assert "loud" not in {device for device, _ in list(peers.heard.queue)}, "it was told once"
    dropped = {"loud": 0, "": 0}
    for event in peers.coordinator.named("over_quota"):
        assert event["code"] == "TooManyMessages"
        dropped[event["device"]] += event["messages"]
    status = peers.coordinator.named("status")[-1]
    # While they were said, the buckets filled up a little.
    assert said - 120 < dropped["loud"] <= said - 99
    assert 0 < dropped[""] <= strangers - 998
    assert status["messages"]["up"]["leave"][0] + sum(dropped.values()) == said + strangers
    assert status["devices"] == {"online": 1, "offline": 0, "left": 1}


def test_a_round_goes_on_without_what_it_cannot_use(tmp_path: Path) -> None:
    """Updates with forbidden content are refused by name and counted, and no other device notices."""
    good = random_adapter(1)
    data = to_bytes(good)
    (name, factors), *others = good.layers.items()
    useless = {
        "nan": (data[:-4] + struct.pack("<f", float("nan")), "AdapterValueError"),
        "unknown": (to_bytes(Adapter({f"{name}.more": factors, **dict(others)}, BASE_ID)), "AdapterMismatch"),
        "lacking": (to_bytes(Adapter({name: factors}, BASE_ID)), "AdapterMismatch"),
        "wide": (to_bytes(random_adapter(2, 5)), "AdapterMismatch"),
        "foreign": (to_bytes(Adapter(good.layers, "c" * 64)), "AdapterMismatch"),
    }
    honest = ("honest-1", "honest-2", "honest-3")
    with Mosquitto(tmp_path) as broker:
        peers = start(tmp_path, broker, len(useless) + len(honest) + 1)
        peers.join(*useless, *honest, "absurd")
        peers.hear(m.RoundStart, {*useless, *honest, "absurd"})
        for device, (content, code) in useless.items():
            offer = peers.offer_content(device, content)
            assert peers.refusal(device, offer.manifest.sha256) == code
        huge = {n: Factors(100 * f.a, 100 * f.b) for n, f in good.layers.items()}
        peers.offer("absurd", Adapter(huge, BASE_ID))
        for number, device in enumerate(honest):
            peers.offer(device, random_adapter(10 + number))
        done = peers.hear(m.RoundDone, {*useless, *honest, "absurd"})
        assert sorted(message.accepted for message in done) == [False] * (len(useless) + 1) + [True] * len(honest)
        peers.coordinator.wait_for("round_closed")
        (closed,) = peers.coordinator.named("round_closed")
        codes = {device: code for device, (_, code) in useless.items()}
        assert closed["refused"] == {**codes, "absurd": "UpdateOutlier"}
        assert closed["updates"] == len(honest)
        reported = {event["device"]: event["code"] for event in peers.coordinator.named("refused")}
        assert reported == closed["refused"]
        peers.transport.close()
        peers.coordinator.stop()
