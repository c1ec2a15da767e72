"""Unmask requests, consents and attempts that a coordinator makes up are refused by name, and show nothing."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from edge_sdk.errors import (
    AttemptMismatch,
    ImpastoError,
    MessageInvalid,
    SignatureInvalid,
    UnmaskRefused,
)
from edge_sdk.secure_aggregation import (
    SIGNATURE_BYTES,
    Consent,
    Consents,
    Ready,
    UnmaskRequest,
    bitmap,
    consent_content,
    device,
    ready_content,
    roster_hash,
)
from edge_sdk.secure_aggregation.keys import sign
from tests.secure_aggregation.hostile import NAMES, VICTIM, masked, refusal
from tests.secure_aggregation.world import World, identity, random_bytes, terms

SURVIVORS, DROPPED = bitmap({0, 1, 2, 3, 4}, 6), bitmap({5}, 6)
REQUESTS: dict[str, tuple[dict[str, object], type[ImpastoError]]] = {
    "a device in both lists": ({"dropped": bitmap({4, 5}, 6)}, UnmaskRefused),
    "everybody in both lists": ({"survivors": b"\x3f", "dropped": b"\x3f"}, UnmaskRefused),
    "a device in no list": ({"dropped": b"\x00"}, UnmaskRefused),
    "itself among the dropped": ({"survivors": bitmap({0, 1, 3, 4}, 6), "dropped": bitmap({2, 5}, 6)}, UnmaskRefused),
    "too few survivors": ({"survivors": bitmap({0, 1, 2}, 6), "dropped": bitmap({3, 4, 5}, 6)}, UnmaskRefused),
    "devices beyond the roster": ({"survivors": b"\x7f"}, MessageInvalid),
    "longer lists than the roster": ({"survivors": SURVIVORS + b"\x00"}, MessageInvalid),
    "of another start": ({"epoch": 8}, AttemptMismatch),
    "of an earlier round": ({"round": 2}, AttemptMismatch),
    "of another attempt": ({"attempt": 2}, AttemptMismatch),
}


@pytest.mark.parametrize("what", REQUESTS)
def test_an_unmask_request_that_cannot_be_right(what: str) -> None:
    changes, wanted = REQUESTS[what]
    world, request = masked()
    before = world.members[VICTIM].state
    world.hear(VICTIM, replace(without_d5(request), **changes))  # type: ignore[arg-type]
    error, state = refusal(world)
    assert type(error) is wanted
    assert state == before
    world.hear(VICTIM, request)
    assert world.members[VICTIM].state.phase == "consented"


def without_d5(request: UnmaskRequest) -> UnmaskRequest:
    """A request, right by itself, for the sum without the last device."""
    return replace(request, survivors=SURVIVORS, dropped=DROPPED, ready=request.ready[:-SIGNATURE_BYTES])


def test_a_second_unmask_request_in_other_company() -> None:
    world, request = masked()
    world.hear(VICTIM, request)
    agreed = world.members[VICTIM].state
    world.hear(VICTIM, without_d5(request))
    assert isinstance(refusal(world)[0], UnmaskRefused)
    world.hear(VICTIM, request)  # the same one is answered the same again
    assert world.members[VICTIM].state == agreed
    assert len(world.state.consents) == 1


def test_the_other_sum_would_have_been_agreed_to_instead() -> None:
    world, request = masked()
    world.hear(VICTIM, without_d5(request))
    assert world.members[VICTIM].state.answer == (SURVIVORS, DROPPED)
    assert not world.members[VICTIM].refused


def test_a_neighbour_that_has_masked_for_others() -> None:
    """A lying coordinator shows one device fewer sharers: its masks are with them alone, and could all be undone."""
    world, request = masked()
    digest = roster_hash(world.terms, world.state.given, world.state.roster)
    elsewhere = sign(identity("d4"), ready_content(world.terms, digest, bitmap({0, 1, 4}, 6)))
    forged = request.ready[: 3 * SIGNATURE_BYTES] + elsewhere + request.ready[4 * SIGNATURE_BYTES :]
    world.hear(VICTIM, replace(request, ready=forged))
    error, state = refusal(world)
    assert isinstance(error, UnmaskRefused)
    assert "'d4'" in str(error)
    assert state.phase == "masked"
    world.members[VICTIM].refused.clear()
    world.hear(VICTIM, replace(request, ready=request.ready[1:]))
    assert isinstance(refusal(world)[0], MessageInvalid)


def agreed_by(world: World, who: set[int], survivors: bytes, dropped: bytes) -> Consents:
    """Consents of devices to a sum."""
    digest = roster_hash(world.terms, world.state.given, world.state.roster)
    content = consent_content(world.terms, digest, survivors, dropped)
    signatures = b"".join(sign(identity(NAMES[place]), content) for place in sorted(who))
    return Consents(epoch=7, round=3, attempt=1, devices=bitmap(who, 6), signatures=signatures)


def test_consents_that_are_no_quorum() -> None:
    """Of six devices four have to agree, and to the same sum as this one."""
    world, request = masked()
    member = world.members[VICTIM]
    good = agreed_by(world, {0, 1, 2, 3}, b"\x3f", b"\x00")
    world.hear(VICTIM, good)
    assert isinstance(member.refused.pop(), AttemptMismatch)  # before it has agreed itself
    world.hear(VICTIM, request)
    before = member.state
    assert before.phase == "consented"
    for consents, wanted in (
        (agreed_by(world, {0, 1, 2}, b"\x3f", b"\x00"), UnmaskRefused),
        (agreed_by(world, {0, 1, 3, 4}, SURVIVORS, DROPPED), UnmaskRefused),
        (replace(good, signatures=bytes(4 * SIGNATURE_BYTES)), UnmaskRefused),
        (
            replace(good, signatures=good.signatures[SIGNATURE_BYTES:] + good.signatures[:SIGNATURE_BYTES]),
            UnmaskRefused,
        ),
        (replace(good, devices=bitmap({0, 1, 3, 4}, 6)), UnmaskRefused),
        (replace(good, signatures=good.signatures[1:]), MessageInvalid),
        (replace(good, attempt=2), AttemptMismatch),
    ):
        world.hear(VICTIM, consents)
        assert type(member.refused.pop()) is wanted
        assert member.state == before
    world.tamper_up = lambda _, message: message
    actions = member.feed(good)
    assert [type(action) for action in actions] == [device.Say]
    assert member.state.phase == "answered"
    assert member.state.held == {}


def test_an_unmask_request_before_the_vector() -> None:
    _, request = masked()
    world = World(NAMES, terms())
    world.begin()
    world.hear(VICTIM, request)
    error, state = refusal(world)
    assert isinstance(error, AttemptMismatch)
    assert state.phase == "ready"


def test_a_replayed_request_of_an_earlier_attempt() -> None:
    first, request = masked()
    second = World(NAMES, terms(attempt=2))
    second.members = first.members
    second.begin()
    second.hear(VICTIM, request)
    error, state = refusal(second)
    assert isinstance(error, AttemptMismatch)
    assert state.terms == second.terms


def test_signatures_that_devices_make_up() -> None:
    world = World(NAMES, terms())
    world.tamper_up = lambda name, message: (
        replace(message, signature=bytes(64)) if name == VICTIM and isinstance(message, Ready | Consent) else message
    )
    world.begin()
    assert [(name, type(error)) for name, error in world.refused] == [(VICTIM, SignatureInvalid)]
    world.upload()
    assert world.state.phase == "uploading"
    assert world.state.awaited == {VICTIM}
    world.time_up()  # without that device, whose vector is thrown away
    assert (world.total == world.expected()).all()
    assert sorted(world.task.uploads) == [name for name in NAMES if name != VICTIM]  # type: ignore[union-attr]
    assert not world.blobs


def test_a_device_that_has_missed_the_request_can_still_help() -> None:
    world = World(NAMES, terms())
    world.tamper = lambda name, message: (
        None if name == VICTIM and isinstance(message, UnmaskRequest) and world.state.phase == "consenting" else message
    )
    world.begin()
    world.upload()
    assert world.state.awaited == {VICTIM}
    world.time_up()  # the request is said to it again, then the consents, its own among those that came
    assert world.members[VICTIM].state.phase == "answered"
    assert world.state.phase == "done"
    assert (world.total == world.expected()).all()


def test_no_second_attempt_in_a_round_that_was_unmasked() -> None:
    world = World(NAMES, terms())
    world.begin()
    world.upload()
    assert world.state.phase == "done"
    member = world.members[VICTIM]
    assert member.feed(device.Begin(terms(attempt=2, epoch=8), random_bytes(VICTIM, 2)))
    assert isinstance(member.refused.pop(), UnmaskRefused)
    assert member.feed(device.Begin(terms(attempt=2), random_bytes(VICTIM, 2)))
    assert isinstance(refusal(world)[0], UnmaskRefused)
    assert member.state.phase == "answered"
    member.refused.clear()
    assert member.feed(device.Begin(terms(attempt=3, round=4), random_bytes(VICTIM, 3)))
    assert member.state.phase == "advertised"
    assert not member.refused


@pytest.mark.parametrize(
    "changes", [{"attempt": 1, "words": 9}, {"epoch": 6, "attempt": 9}, {"round": 2, "attempt": 9}]
)
def test_an_attempt_that_is_not_newer(changes: dict[str, int]) -> None:
    world = World(NAMES, terms())
    world.begin()
    before = world.members[VICTIM].state
    world.members[VICTIM].feed(device.Begin(terms(**changes), random_bytes(VICTIM, 5)))
    error, state = refusal(world)
    assert isinstance(error, AttemptMismatch)
    assert state == before
