"""Whatever a device makes up is refused by name, changes nothing, and harms no sum more than it must."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from coordinator import secure_aggregation as server
from edge_sdk.errors import (
    AttemptMismatch,
    ImpastoError,
    MessageInvalid,
    RosterInvalid,
    ShareInvalid,
    SignatureInvalid,
)
from edge_sdk.secure_aggregation import (
    Advertise,
    Advertisement,
    Consents,
    FromDevice,
    Reveal,
    Shares,
    UnmaskAnswer,
    UnmaskRequest,
)
from edge_sdk.secure_aggregation.keys import advertised, split_randomness
from tests.secure_aggregation.hostile import NAMES, VICTIM
from tests.secure_aggregation.world import World, identity, random_bytes, terms


def test_a_wrong_share_among_enough_does_no_harm_and_is_named() -> None:
    world = World(NAMES, terms())
    world.tamper_up = lambda name, message: spoilt(message) if name == "d0" else message
    world.begin()
    world.upload()
    assert (world.total == world.expected()).all()
    assert world.liars == {"d0"}


def spoilt(message: FromDevice) -> FromDevice:
    if not isinstance(message, UnmaskAnswer):
        return message
    return replace(message, shares=bytes(len(message.shares)))


def test_shares_that_do_not_give_their_secret_end_the_attempt() -> None:
    world = World(NAMES, terms())
    world.tamper_up = lambda _, message: spoilt(message)
    world.begin()
    world.upload()
    assert isinstance(world.error, ShareInvalid)
    assert world.state.phase == "abandoned"
    assert not world.blobs


def heard(world: World, name: str, message: FromDevice) -> tuple[ImpastoError, server.State]:
    before = world.state
    world.refused.clear()
    world.feed(server.Heard(name, message))
    ((who, error),) = world.refused
    assert who == name
    assert world.state == before
    return error, world.state


def entry(name: str, **changes: object) -> Advertise:
    made = advertised(terms(**changes), name, identity(name), split_randomness(random_bytes(name)))
    return Advertise(epoch=7, round=3, attempt=1, advertisement=made)


def low_order(name: str, which: str) -> Advertisement:
    """An advertisement, well signed, with a key of which everybody knows what comes of it."""
    changed = replace(entry(name).advertisement, **{which: bytes(32)})
    content = terms().context("advertisement", *changed.signed_fields)
    return replace(changed, signature=Ed25519PrivateKey.from_private_bytes(identity(name)).sign(content))


def test_advertisements_that_cannot_be_right() -> None:
    world = World(NAMES, terms())
    world.feed(server.Heard("d0", entry("d0")))
    stolen = replace(entry("d0").advertisement, device="d1")
    assert isinstance(heard(world, "d1", entry("d1", step=bytes(32)))[0], SignatureInvalid)
    assert isinstance(heard(world, "d1", entry("d1", federation="others"))[0], SignatureInvalid)
    assert isinstance(heard(world, "d1", replace(entry("d1"), advertisement=stolen))[0], SignatureInvalid)
    assert isinstance(heard(world, "d1", entry("d0"))[0], RosterInvalid)
    assert isinstance(heard(world, "x", entry("x"))[0], RosterInvalid)
    assert isinstance(heard(world, "d1", replace(entry("d1"), attempt=2))[0], AttemptMismatch)
    same_keys = advertised(terms(), "d1", identity("d1"), split_randomness(random_bytes("d0")))
    assert isinstance(heard(world, "d1", replace(entry("d1"), advertisement=same_keys))[0], RosterInvalid)
    low = low_order("d1", "mask_key"), low_order("d1", "share_key")
    assert [type(heard(world, "d1", replace(entry("d1"), advertisement=made))[0]) for made in low] == [
        RosterInvalid
    ] * 2
    again = advertised(terms(), "d0", identity("d0"), split_randomness(random_bytes("d0", 2)))
    assert isinstance(heard(world, "d0", replace(entry("d0"), advertisement=again))[0], AttemptMismatch)
    assert world.state.advertised.keys() == {"d0"}


def test_malformed_messages_of_devices() -> None:
    world = World(NAMES, terms())
    world.tamper_up = lambda name, message: (
        replace(message, sealed=message.sealed[1:]) if name == VICTIM and isinstance(message, Shares) else message
    )
    world.begin()
    assert [(name, type(error)) for name, error in world.refused] == [(VICTIM, MessageInvalid)]
    assert world.state.phase == "sharing"
    assert world.state.awaited == {VICTIM}
    reveal = Reveal(epoch=7, round=3, attempt=1, number=bytes(16))
    assert isinstance(heard(world, VICTIM, reveal)[0], AttemptMismatch)
    answer = UnmaskAnswer(epoch=7, round=3, attempt=1, shares=bytes(96))
    assert isinstance(heard(world, VICTIM, answer)[0], AttemptMismatch)
    assert isinstance(heard(world, "stranger", answer)[0], AttemptMismatch)


def test_an_answer_of_another_length() -> None:
    world = World(NAMES, terms())
    world.tamper = lambda _, message: None if isinstance(message, Consents) else message
    world.begin()
    world.upload()
    assert world.state.phase == "unmasking"
    answer = UnmaskAnswer(epoch=7, round=3, attempt=1, shares=bytes(80))
    assert isinstance(heard(world, VICTIM, answer)[0], MessageInvalid)


def test_a_false_number_is_refused_by_the_coordinator_and_by_devices() -> None:
    names = [f"d{number:02}" for number in range(50)]
    world = World(names, terms())
    world.tamper_up = lambda name, message: (
        replace(message, number=bytes(16)) if name == "d07" and isinstance(message, Reveal) else message
    )
    world.begin()
    assert [(name, type(error)) for name, error in world.refused] == [("d07", RosterInvalid)]
    world.tamper_up = lambda _, message: message
    world.tamper = lambda name, message: (
        replace(message, numbers=bytes(16) + message.numbers[16:])
        if name == "d03" and hasattr(message, "numbers")
        else message
    )
    world.restart()
    assert {type(error) for error in world.members["d03"].refused} == {RosterInvalid}
    assert world.members["d03"].state.phase == "revealed"


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_vector_of_another_length_is_refused_and_thrown_away(size: int) -> None:
    world = World(NAMES, terms(8))
    world.begin()
    world.blobs["odd"] = bytes(size)
    world.feed(server.Uploaded(VICTIM, "odd", size))
    assert [(name, type(error)) for name, error in world.refused] == [(VICTIM, MessageInvalid)]
    assert "odd" not in world.blobs
    world.upload()
    assert (world.total == world.expected()).all()


def test_a_vector_that_comes_too_late_is_thrown_away() -> None:
    """Its masks are being undone: with the self mask's secret it would be in the open."""
    world = World(NAMES, terms())
    world.tamper = lambda _, message: None if isinstance(message, UnmaskRequest) else message
    world.begin()
    world.upload(*NAMES[:5])
    world.time_up()
    assert world.state.phase == "consenting"
    world.upload("d5")
    assert [(name, type(error)) for name, error in world.refused] == [("d5", AttemptMismatch)]
    assert len(world.blobs) == 5
