"""Messages of assisted drawing: docs/assist.md says what the code does; signatures; what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_sdk.errors import HelperUntrusted, MessageInvalid, SignatureInvalid
from edge_sdk.wire import Manifest, Signer, Topics, assist, make_manifest

PAGE = (Path(__file__).parents[2] / "docs" / "assist.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^###|^\*\*Sig)", PAGE, flags=re.MULTILINE | re.DOTALL))
KINDS = (
    assist.Ask, assist.Drawing, assist.AdapterUse, assist.Cancel, assist.Queued, assist.Busy, assist.Drawn,
    assist.HelperState,
)  # fmt: skip
DEVICE_KEY, HELPER_KEY = bytes(range(32)), bytes(range(1, 33))
COORDINATOR = Signer(bytes(32), "tastes")
REQUEST = "a" * 64


def drawing(**changes: Any) -> assist.Drawing:
    values: dict[str, Any] = {
        "base_id": "b1", "variant": "fp32", "schedule": "s", "scheduler": "dpm++", "steps": 25, "until": 12,
        "guidance": 5.0, "width": 512, "height": 512, "seed": 7, "hybrid": "merge",
        "adapters": [assist.AdapterUse(sha256="c" * 64, weight=1.0)], "form": "open", "prompt": [b"\x01\x00"],
        "negative": None, "deadline": 1e9,
    }  # fmt: skip
    return assist.Drawing(**{**values, **changes})


def asker() -> assist.Asker:
    return assist.Asker(DEVICE_KEY, "tastes", "pi-4", "desk-1", signer().public)


def signer() -> assist.HelperSigner:
    return assist.HelperSigner(HELPER_KEY, "tastes", "desk-1", COORDINATOR)


def state(**changes: Any) -> assist.HelperState:
    values: dict[str, Any] = {
        "online": True, "epoch": 3, "base_id": "b1", "variant": "fp32", "schedule": "s", "forms": ["open"],
        "largest": 512 * 512, "seconds": 2.0,
    }  # fmt: skip
    return signer().state(**{**values, **changes})


def manifest(data: bytes = b"state") -> Manifest:
    return make_manifest(data, role="state", name="drawing")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_field_is_described_in_order(kind: type[msgspec.Struct]) -> None:
    described = re.findall(r"^\| `(\w+)` \|", SECTIONS[kind.__name__.lower()], flags=re.MULTILINE)
    assert described == [field for field in kind.__struct_fields__ if field != "version"]


def test_no_other_message_is_described() -> None:
    assert set(SECTIONS) == {kind.__name__.lower() for kind in KINDS}


def test_messages_come_back_as_they_were() -> None:
    ask = asker().ask(drawing())
    messages: list[assist.AssistMessage] = [
        ask,
        asker().cancel(REQUEST),
        assist.Queued(request=REQUEST, position=2, seconds=3.5),
        assist.Busy(request=REQUEST, seconds=9.0, reason="full"),
        signer().drawn("pi-4", REQUEST, manifest(), 2.0),
        state(),
    ]
    assert [assist.decode(assist.encode(message)) for message in messages] == messages
    assert assist.decode_drawing(ask.drawing) == drawing()
    assert assist.request_id(ask.drawing) == assist.request_id(assist.encode(drawing()))


@pytest.mark.parametrize(
    "changes",
    [
        {"until": 25},
        {"until": 0},
        {"until": 26},
        {"steps": 1001},
        {"form": "states"},
        {"form": "blank"},
        {"prompt": []},
        {"prompt": [b"\x01"]},
        {"prompt": [bytes(154)]},
        {"prompt": [b"", b"", b""]},
        {"negative": []},
        {"seed": -1},
        {"seed": 2**53},
        {"guidance": float("nan")},
        {"guidance": float("inf")},
        {"deadline": float("nan")},
        {"width": 0},
        {"height": 4097},
        {"adapters": [{"sha256": "c" * 64, "weight": float("nan")}]},
        {"adapters": [{"sha256": "../leaf", "weight": 1.0}]},
        {"adapters": [{"sha256": "c" * 64, "weight": 1.0}] * 9},
        {"version": 2},
        {"more": 1},
    ],
)
def test_drawings_that_make_no_sense_are_refused(changes: dict[str, Any]) -> None:
    content = msgspec.msgpack.decode(assist.encode(drawing()))
    with pytest.raises(MessageInvalid, match="Request refused"):
        assist.decode_drawing(msgspec.msgpack.encode({**content, **changes}))


@pytest.mark.parametrize("data", [b"", b"\xc1", bytes(200_000), b"\x81\xa4type\xa4join"])
def test_bytes_that_are_no_message(data: bytes) -> None:
    with pytest.raises(MessageInvalid, match="Message refused"):
        assist.decode(data)


def test_a_blank_request_names_no_prompt() -> None:
    blank = drawing(form="blank", prompt=[])
    assert assist.decode_drawing(assist.encode(blank)) == blank


@pytest.mark.parametrize("ids", [(), (0, 1, 65535), tuple(range(75))])
def test_token_ids_are_at_most_154_bytes(ids: tuple[int, ...]) -> None:
    packed = assist.pack_tokens(ids)
    assert packed is not None
    assert len(packed) <= 154
    assert assist.unpack_tokens(packed) == ids


def test_token_ids_that_cannot_be_sent() -> None:
    assert assist.pack_tokens((65536,)) is None
    assert assist.pack_tokens(tuple(range(100))) is None


START = signer().public
LATER_START = Signer(bytes([7] * 32), "tastes").public


@pytest.mark.parametrize(
    "to",
    [
        ("tastes", "desk-1", START, "pi-5"),
        ("tastes", "desk-2", START, "pi-4"),
        ("tastes", "desk-1", LATER_START, "pi-4"),
        ("x", "desk-1", START, "pi-4"),
    ],
)
def test_a_request_is_for_one_start_of_one_helper_and_of_one_device(to: tuple[str, str, bytes, str]) -> None:
    ask, cancel = asker().ask(drawing()), asker().cancel(REQUEST)
    public = Signer(DEVICE_KEY, "tastes").public
    assert assist.asks(ask, public, "tastes", "desk-1", START, "pi-4")
    assert assist.cancels(cancel, public, "tastes", "desk-1", START, "pi-4")
    assert not assist.asks(ask, public, *to)
    assert not assist.cancels(cancel, public, *to)
    assert not assist.asks(ask, COORDINATOR.public, "tastes", "desk-1", START, "pi-4")
    assert not assist.asks(ask, b"", "tastes", "desk-1", START, "pi-4")
    later = msgspec.structs.replace(ask, drawing=assist.encode(drawing(deadline=2e9)))
    assert not assist.asks(later, public, "tastes", "desk-1", START, "pi-4")


def test_a_helper_is_one_that_the_coordinator_vouches_for() -> None:
    found = state()
    assist.check_helper(found, COORDINATOR.public, "tastes", "desk-1")
    assist.check_helper(state(online=False), COORDINATOR.public, "tastes", "desk-1")
    own = assist.HelperSigner(HELPER_KEY, "tastes", "desk-1", Signer(bytes([9] * 32), "tastes")).state(
        online=True, epoch=3, base_id="b1", variant="fp32", schedule="s", forms=["open"], largest=1, seconds=2.0
    )  # fmt: skip
    for forged, helper in (
        (own, "desk-1"),
        (found, "desk-2"),
        (msgspec.structs.replace(found, variant="int8"), "desk-1"),
        (msgspec.structs.replace(found, online=False), "desk-1"),
        (msgspec.structs.replace(found, key=COORDINATOR.public), "desk-1"),
    ):
        with pytest.raises(HelperUntrusted, match="does not vouch"):
            assist.check_helper(forged, COORDINATOR.public, "tastes", helper)


def test_an_answer_is_for_one_request_of_one_device() -> None:
    drawn = signer().drawn("pi-4", REQUEST, manifest(), 2.0)
    assist.check_drawn(drawn, state(), "pi-4")
    for forged, device in (
        (drawn, "pi-5"),
        (msgspec.structs.replace(drawn, request="b" * 64), "pi-4"),
        (msgspec.structs.replace(drawn, manifest=manifest(b"other")), "pi-4"),
    ):
        with pytest.raises(SignatureInvalid, match="not signed for"):
            assist.check_drawn(forged, state(), device)


def test_topics_have_seven_slashes_at_most_and_name_their_device() -> None:
    topics = Topics("tastes")
    up, chunk = topics.assist("desk-1", "pi-4", "up"), topics.assist_chunks("desk-1", "pi-4", "down")
    assert up == "impasto/1/tastes/assist/desk-1/pi-4/up/control"
    assert max(up.count("/"), chunk.count("/")) == 7
    assert topics.asker_of(up) == topics.asker_of(chunk) == "pi-4"
    assert topics.helper_of(topics.helper_state("desk-1")) == "desk-1"
    for topic in ("impasto/1/tastes/assist/desk-1", "impasto/1/other/assist/desk-1/pi-4/up/control", up[:31]):
        with pytest.raises(MessageInvalid):
            topics.asker_of(topic)
    with pytest.raises(MessageInvalid):
        topics.helper_of(topics.presence("pi-4"))
    with pytest.raises(MessageInvalid):
        topics.assist("+", "pi-4", "up")
