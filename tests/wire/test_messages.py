"""Messages survive the round trip; what breaks the protocol is refused by name."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import MessageInvalid
from edge_sdk.wire import messages as m

SHA = "ab" * 32
MANIFEST = m.Manifest(role="cluster", name="cluster-1", sha256=SHA, size=5000, chunk_size=1024)
PROFILE = m.DeviceProfile(
    base_id="b1", prompt_code=np.ones(8, "<f4").tobytes(), pictures=12, max_rank=8, capabilities={"cpu": "x86"}
)
EXAMPLES: list[m.Message] = [
    m.Pull(sha256=SHA, missing=b"\x1f", credit=5),
    m.Committed(sha256=SHA),
    m.Refused(code="AdapterMismatch", reason="another base model", about=SHA),
    m.Join(profile=PROFILE),
    m.Offer(round=1, attempt=2, manifest=MANIFEST, pictures=12, first_loss=0.5, last_loss=0.4, train_seconds=12.5),
    m.Leave(),
    m.Welcome(round=0, rounds=5),
    m.RoundStart(
        round=1,
        attempt=2,
        rounds=5,
        stage="cluster",
        cluster=2,
        frozen=[MANIFEST],
        start=None,
        rank=8,
        seed=1,
        steps=20,
        batch_size=4,
        learning_rate=1e-3,
        deadline=60.0,
    ),
    m.RoundDone(round=1, accepted=True, updates=8),
    m.Finished(rounds=5, cluster=2, adapters=[MANIFEST]),
    m.CoordinatorState(
        online=True,
        epoch=3,
        federation="stickers",
        base_id="b1",
        level="coarse",
        key=bytes(32),
        successions=[m.Succession(old=bytes(32), new=bytes(32), signature=bytes(64))],
        signature=bytes(64),
    ),
    m.Presence(online=False, epoch=7),
]
MASKING = m.Masking(
    epoch=3, largest_weight=64, largest_change=0.5, colluding=0.1, dropping=0.3, security_bits=40, failure_bits=20
)
EXAMPLES.append(m.Hello(epoch=7, number=3, signature=bytes(64)))
EXAMPLES.append(m.SignedStep(epoch=3, step=m.encode(EXAMPLES[9]), signature=bytes(64)))
EXAMPLES.append(m.Forget(key=bytes(32), signature=bytes(64)))
EXAMPLES.append(m.Forgotten(key=bytes(32), signature=bytes(64)))
EXAMPLES.append(m.Sum(content=b"\x80"))
EXAMPLES.append(m.SignedSum(epoch=3, content=b"\x80", signature=bytes(64)))
EXAMPLES.append(m.ClusterStart(attempt=1, question=b"\x80", smallest=3, masking=MASKING, deadline=5.0))
# A round in which devices choose their clusters alone: what changes beside the example above.
CHOOSING: dict[str, Any] = {
    "cluster": None, "masking": msgspec.structs.asdict(MASKING), "centroids": bytes(64), "slots": bytes([0, 1]),
    "losses": 2,
}  # fmt: skip
NO_CHOICE: list[dict[str, Any]] = [
    {"centroids": bytes(63)},
    {"centroids": bytes(65 * 32)},
    {"cluster": 1},
    {"stage": "root"},
    {"masking": None},
    {"slots": bytes(1)},
    {"slots": bytes([1, 1])},
    {"slots": b""},
    {"starts": [None]},
    {"losses": -1},
    {"start": msgspec.structs.asdict(MANIFEST)},
]
NO_MASKING: list[dict[str, Any]] = [
    {"epoch": -1},
    {"largest_weight": 0},
    {"largest_change": 0.0},
    {"largest_change": float("nan")},
    {"colluding": 1.0},
    {"dropping": -0.1},
    {"security_bits": 39},
    {"failure_bits": 129},
    {"surprise": 1},
]


def test_there_is_an_example_of_every_message() -> None:
    assert {type(message) for message in EXAMPLES} == set(m._Message.__subclasses__())


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_round_trip_and_the_form_on_the_wire(message: m.Message) -> None:
    data = m.encode(message)
    assert m.decode(data) == message
    raw = msgspec.msgpack.decode(data)
    assert raw["type"] == type(message).__name__.lower()
    assert raw["version"] == 1


def test_a_round_may_be_one_under_masks() -> None:
    start = msgspec.structs.replace(EXAMPLES[7], masking=MASKING)
    assert m.decode(m.encode(start)) == start


def test_a_round_may_let_devices_choose_their_clusters() -> None:
    raw = {
        **msgspec.msgpack.decode(m.encode(EXAMPLES[7])),
        **CHOOSING,
        "starts": [None, msgspec.structs.asdict(MANIFEST)],
    }
    start = m.decode(msgspec.msgpack.encode(raw))
    assert isinstance(start, m.RoundStart)
    assert start.manifests == [MANIFEST, MANIFEST]
    assert [start.of_cluster(cluster).start for cluster in (0, 1)] == [None, MANIFEST]
    own = start.of_cluster(1)
    assert (own.cluster, own.starts, own.centroids, own.slots, own.losses) == (1, [], b"", b"", None)
    assert start.of_cluster(None) is start


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
@pytest.mark.parametrize("change", [{"version": 2}, {"type": "other"}, {"surprise": 1}])
def test_other_versions_types_and_fields_are_refused(message: m.Message, change: dict[str, Any]) -> None:
    raw = msgspec.msgpack.decode(m.encode(message))
    with pytest.raises(MessageInvalid):
        m.decode(msgspec.msgpack.encode({**raw, **change}))


@pytest.mark.parametrize(
    ("number", "change"),
    [
        (0, {"sha256": SHA.upper()}),
        (0, {"sha256": SHA + "\n"}),
        (0, {"credit": 65}),
        (0, {"credit": 0}),
        (0, {"missing": bytes(2**16 + 1)}),
        (2, {"reason": "x" * 1001}),
        (4, {"first_loss": float("nan")}),
        (4, {"last_loss": float("inf")}),
        (4, {"train_seconds": -1.0}),
        (4, {"round": -1}),
        (7, {"stage": "leaf"}),
        (7, {"rank": 1025}),
        (7, {"learning_rate": 0.0}),
        (7, {"learning_rate": float("nan")}),
        (10, {"federation": "a/b"}),
        (10, {"federation": "a\n"}),
        (10, {"signature": bytes(63)}),
        (11, {"epoch": -1}),
        (11, {"online": 1}),
        (12, {"epoch": -1}),
        (12, {"step": bytes(2**17 + 1)}),
        (12, {"signature": bytes(65)}),
        (14, {"content": bytes(2**17 + 1)}),
        (15, {"signature": bytes(63)}),
        (9, {"cluster": None}),
        (9, {"centroids": bytes(32)}),
        (9, {"cluster": None, "centroids": bytes(31)}),
        (18, {"smallest": 2}),
        (18, {"question": b""}),
        (18, {"question": bytes(96 * 1024 + 1)}),
        *((7, {"masking": {**msgspec.structs.asdict(MASKING), **change}}) for change in NO_MASKING),
        *((7, {**CHOOSING, **change}) for change in NO_CHOICE),
    ],
)
def test_values_out_of_range_are_refused(number: int, change: dict[str, Any]) -> None:
    raw = msgspec.msgpack.decode(m.encode(EXAMPLES[number]))
    with pytest.raises(MessageInvalid):
        m.decode(msgspec.msgpack.encode({**raw, **change}))


@pytest.mark.parametrize(
    "change",
    [
        {"prompt_code": b"123"},
        {"prompt_code": b""},
        {"prompt_code": np.array([1, np.nan], "<f4").tobytes()},
        {"picture_code": b"123"},
        {"picture_code": np.array([1, np.inf], "<f4").tobytes()},
        {"picture_code": bytes(16388)},
        {"picture_encoder": b"123"},
        {"picture_encoder": bytes(33)},
        {"pictures": 0},
        {"max_rank": 0},
        {"base_id": ""},
        {"capabilities": {"x" * 65: ""}},
        {"capabilities": {str(i): "" for i in range(33)}},
    ],
)
def test_profiles_that_make_no_sense_are_refused(change: dict[str, Any]) -> None:
    raw = msgspec.msgpack.decode(m.encode(m.Join(profile=PROFILE)))
    raw["profile"].update(change)
    with pytest.raises(MessageInvalid):
        m.decode(msgspec.msgpack.encode(raw))


@pytest.mark.parametrize(
    "change",
    [{"size": 2**31 - 1}, {"size": 0}, {"chunk_size": 1023}, {"chunk_size": 128 * 1024 - 35}, {"role": "leaf"}],
)
def test_manifests_that_make_no_sense_are_refused(change: dict[str, Any]) -> None:
    raw = msgspec.msgpack.decode(m.encode(EXAMPLES[4]))
    raw["manifest"].update(change)
    with pytest.raises(MessageInvalid):
        m.decode(msgspec.msgpack.encode(raw))


@given(st.binary(max_size=300))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(MessageInvalid):
        m.decode(data)


@given(st.sampled_from(EXAMPLES), st.integers(0, 10_000), st.integers(0, 255))
def test_damaged_messages_are_refused_or_valid(message: m.Message, position: int, value: int) -> None:
    data = bytearray(m.encode(message))
    data[position % len(data)] = value
    try:
        decoded = m.decode(bytes(data))
    except MessageInvalid:
        return
    assert m.decode(m.encode(decoded)) == decoded


def test_only_a_step_is_read_as_one() -> None:
    for message in EXAMPLES:
        if isinstance(message, m.RoundStart | m.ClusterStart | m.Finished):
            assert m.decode_step(m.encode(message)) == message
        else:
            with pytest.raises(MessageInvalid):
                m.decode_step(m.encode(message))


def test_too_large_and_too_deep_messages_are_refused() -> None:
    with pytest.raises(MessageInvalid, match="more than"):
        m.decode(bytes(m.MAX_MESSAGE + 1))
    with pytest.raises(MessageInvalid):
        m.decode(b"\x91" * 100_000)


def test_an_offer_has_the_figures_of_its_training_beside_the_rest() -> None:
    """They are flat, by these names, as other languages read them."""
    stats = m.TrainingStats(
        pictures=12,
        first_loss=np.float32(0.5),
        last_loss=np.float64(0.4),
        train_seconds=-1e-9,  # type: ignore[arg-type]
    )
    start = next(example for example in EXAMPLES if isinstance(example, m.RoundStart))
    offer = m.Offer.of(start, MANIFEST, stats)
    assert msgspec.msgpack.decode(m.encode(offer)) == {
        "type": "offer",
        "version": 1,
        "round": 1,
        "attempt": 2,
        "manifest": msgspec.to_builtins(MANIFEST),
        "pictures": 12,
        "first_loss": 0.5,
        "last_loss": 0.4,
        "train_seconds": 0.0,
    }
    assert offer.stats == m.TrainingStats(pictures=12, first_loss=0.5, last_loss=0.4, train_seconds=0.0)
    assert m.decode(m.encode(offer)) == offer
