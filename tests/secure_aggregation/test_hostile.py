"""Whatever a coordinator or a device makes up is refused by name, changes nothing, and shows nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from coordinator import secure_aggregation as server
from edge_sdk.errors import (
    AttemptMismatch,
    ImpastoError,
    MasksLeft,
    MessageInvalid,
    RosterInvalid,
    ShareInvalid,
    SignatureInvalid,
    TooFewDevices,
    UnmaskRefused,
)
from edge_sdk.secure_aggregation import (
    SEALED_BYTES,
    SIGNATURE_BYTES,
    Advertise,
    Advertisement,
    Consent,
    Consents,
    Delivery,
    FromCoordinator,
    FromDevice,
    Layout,
    Ready,
    Reveal,
    Roster,
    Scaled,
    Shares,
    UnmaskAnswer,
    UnmaskRequest,
    bitmap,
    consent_content,
    decode,
    decoded,
    device,
    encode,
    encoded,
    mask,
    places,
    ready_content,
    roster_hash,
    to_bytes,
)
from edge_sdk.secure_aggregation.keys import advertised, sign, split_randomness
from tests.secure_aggregation.world import World, identity, random_bytes, terms

NAMES = [f"d{number}" for number in range(6)]
VICTIM = "d2"


def tampered(change: Callable[[FromCoordinator], FromCoordinator]) -> World:
    """A world in which the victim hears changed messages, up to where it waits for a true one."""
    world = World(NAMES, terms())
    world.tamper = lambda name, message: change(message) if name == VICTIM else message
    world.begin()
    world.upload()
    return world


def refusal(world: World) -> tuple[ImpastoError, device.State]:
    """The one refusal of the victim, and its state."""
    member = world.members[VICTIM]
    (error,) = member.refused
    return error, member.state


def of_roster(**changes: object) -> Callable[[FromCoordinator], FromCoordinator]:
    return lambda message: replace(message, **changes) if isinstance(message, Roster) else message  # type: ignore[type-var]


def with_entries(change: Callable[[list], list]) -> Callable[[FromCoordinator], FromCoordinator]:  # type: ignore[type-arg]
    return lambda message: (
        replace(message, devices=change(list(message.devices))) if isinstance(message, Roster) else message
    )


def other_step(entry: object) -> object:
    """The entry of d4, honest but for another step."""
    return advertised(terms(step=bytes(32)), "d4", identity("d4"), split_randomness(random_bytes("d4")))


def impostor(entry: object) -> object:
    """An entry of d4 whose keys were put in by somebody else, who has no identity key of it."""
    made = advertised(terms(), "d4", identity("somebody"), split_randomness(random_bytes("somebody")))
    return replace(made, identity=entry.identity)  # type: ignore[attr-defined, type-var]


ROSTERS = {
    "a device twice": (with_entries(lambda entries: [*entries[:3], entries[2], *entries[3:]]), RosterInvalid),
    "two devices with one key": (
        with_entries(lambda entries: [*entries[:5], replace(entries[5], mask_key=entries[4].mask_key)]),
        RosterInvalid,
    ),
    "out of order": (with_entries(lambda entries: entries[::-1]), RosterInvalid),
    "without itself": (with_entries(lambda entries: [e for e in entries if e.device != VICTIM]), RosterInvalid),
    "itself with another key": (
        with_entries(lambda entries: [*entries[:2], replace(entries[2], mask_key=bytes(32)), *entries[3:]]),
        RosterInvalid,
    ),
    "a forged signature": (
        with_entries(lambda entries: [*entries[:4], replace(entries[4], signature=bytes(64)), entries[5]]),
        RosterInvalid,
    ),
    "an impostor": (with_entries(lambda entries: [*entries[:4], impostor(entries[4]), entries[5]]), RosterInvalid),
    "a device that was shown another step": (
        with_entries(lambda entries: [*entries[:4], other_step(entries[4]), entries[5]]),
        RosterInvalid,
    ),
    "too few": (with_entries(lambda entries: entries[1:3]), TooFewDevices),
    "a low threshold": (of_roster(threshold=3), RosterInvalid),
    "a threshold beyond those who may be left": (of_roster(threshold=6), RosterInvalid),
    "a sparse graph": (of_roster(neighbours=4), RosterInvalid),
    "another start": (of_roster(epoch=6), AttemptMismatch),
    "another round": (of_roster(round=2), AttemptMismatch),
    "another attempt": (of_roster(attempt=2), AttemptMismatch),
}


@pytest.mark.parametrize("what", ROSTERS)
def test_a_roster_that_cannot_be_right(what: str) -> None:
    change, wanted = ROSTERS[what]
    world = tampered(change)
    error, state = refusal(world)
    assert type(error) is wanted
    assert state.phase == "advertised"
    assert state.roster == ()
    world.tamper = lambda _, message: message
    world.feed(server.Restarted())  # the true roster is taken after it
    world.upload()
    assert (world.total == world.expected()).all()


def test_a_known_device_with_another_identity() -> None:
    world = World(NAMES, terms())
    rules = device.Rules(device=VICTIM, identity=identity(VICTIM), known={"d4": bytes(32)})
    world.tamper = lambda name, message: None if name == VICTIM else message
    world.begin()
    roster = Roster(epoch=7, round=3, attempt=1, neighbours=5, threshold=4, devices=list(world.state.roster))
    state, (action,) = device.step(rules, world.members[VICTIM].state, roster)
    assert isinstance(action, device.Refuse)
    assert isinstance(action.error, RosterInvalid)
    assert "another identity of 'd4'" in str(action.error)
    assert state == world.members[VICTIM].state


DELIVERIES: dict[str, tuple[Callable[[Delivery], Delivery], type[ImpastoError]]] = {
    "a changed share": (
        lambda message: replace(message, sealed=bytes([message.sealed[0] ^ 1]) + message.sealed[1:]),
        ShareInvalid,
    ),
    "shares of others": (
        lambda message: replace(message, sealed=message.sealed[SEALED_BYTES:] + message.sealed[:SEALED_BYTES]),
        ShareInvalid,
    ),
    "too many shares": (lambda message: replace(message, sealed=message.sealed + bytes(SEALED_BYTES)), MessageInvalid),
    "without itself": (
        lambda message: replace(message, sharers=bitmap({0, 1, 3, 4, 5}, 6)),
        TooFewDevices,
    ),
    "too few sharers": (
        lambda message: replace(message, sharers=bitmap({1, 2, 3}, 6), sealed=message.sealed[: 2 * SEALED_BYTES]),
        TooFewDevices,
    ),
    "sharers beyond the roster": (lambda message: replace(message, sharers=b"\xff"), MessageInvalid),
    "another attempt": (lambda message: replace(message, attempt=2), AttemptMismatch),
}


@pytest.mark.parametrize("what", DELIVERIES)
def test_shares_that_cannot_be_right(what: str) -> None:
    change, wanted = DELIVERIES[what]
    world = tampered(lambda message: change(message) if isinstance(message, Delivery) else message)
    error, state = refusal(world)
    assert type(error) is wanted
    assert state.phase == "shared"
    assert list(state.held) == [2]  # its own share alone


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


def masked() -> tuple[World, UnmaskRequest]:
    """A world in which all have handed in, and nobody has heard an unmask request; and that of the victim."""
    world = World(NAMES, terms())
    requests: dict[str, UnmaskRequest] = {}

    def keep(name: str, message: FromCoordinator) -> FromCoordinator | None:
        if not isinstance(message, UnmaskRequest):
            return message
        requests[name] = message
        return None

    world.tamper = keep
    world.begin()
    world.upload()
    world.tamper = lambda _, message: message
    assert world.state.phase == "consenting"
    return world, requests[VICTIM]


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


# --- devices against the coordinator --------------------------------------------------------------------------------


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


# --- noise ----------------------------------------------------------------------------------------------------------


LAYOUT = Layout(slots=2, tensors=(Scaled(name="a", size=100, scale=1.0),))


def test_a_mask_that_is_left_makes_the_sum_noise_by_name() -> None:
    total = sum(encoded(LAYOUT, 0, 1.0, {"a": np.full(100, 0.5)}) for _ in range(3))
    assert isinstance(total, np.ndarray)
    assert decoded(LAYOUT, total, 3).slots[0].tensors["a"] == pytest.approx(np.full(100, 0.5), abs=1e-6)
    with pytest.raises(MasksLeft, match="Nothing is learnt"):
        decoded(LAYOUT, total + mask(bytes(32), LAYOUT.words), 3)
    with pytest.raises(MasksLeft):
        decoded(LAYOUT, total, 4)


def test_a_device_that_was_shown_another_step_leaves_noise() -> None:
    """A coordinator that gets past the signatures has masks that do not cancel: HKDF's info holds the step's hash."""
    world = World(NAMES, terms(LAYOUT.words))
    world.tamper = lambda _, message: None if isinstance(message, Roster) else message
    world.begin()
    roster = Roster(epoch=7, round=3, attempt=1, neighbours=5, threshold=4, devices=list(world.state.roster))
    total = np.zeros(LAYOUT.words, np.uint32)
    for name in NAMES:
        shown = terms(LAYOUT.words, step=bytes(32)) if name == VICTIM else world.terms
        total += masked_alone(name, shown, roster)
    with pytest.raises(MasksLeft):
        decoded(LAYOUT, total, len(NAMES))


def masked_alone(name: str, shown: object, roster: Roster) -> np.ndarray:  # type: ignore[type-arg]
    """The vector of a device under pairwise masks alone, all checks left out."""
    from edge_sdk.secure_aggregation import Parameters, add_masks, mask_private_key, pair_mask_key, roster_hash

    secrets = split_randomness(random_bytes(name))
    digest = roster_hash(shown, Parameters(5, 4), roster.devices)  # type: ignore[arg-type]
    private = mask_private_key(terms(), name, secrets.mask_seed)
    total = encoded(LAYOUT, 0, 1.0, {"a": np.zeros(100)})
    for other in roster.devices:
        if other.device != name:
            first, second = sorted((name, other.device))
            key = pair_mask_key(shown, digest, private, other.mask_key, first, second)  # type: ignore[arg-type]
            add_masks(total, [(key, 1 if name < other.device else -1)])
    return total


def test_the_same_steps_leave_no_noise() -> None:
    world = World(NAMES, terms(LAYOUT.words))
    world.tamper = lambda _, message: None
    world.begin()
    roster = Roster(epoch=7, round=3, attempt=1, neighbours=5, threshold=4, devices=list(world.state.roster))
    total = np.sum([masked_alone(name, world.terms, roster) for name in NAMES], axis=0, dtype=np.uint32)
    assert decoded(LAYOUT, total, len(NAMES)).slots[0].weight == pytest.approx(6)


# --- bytes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x93" * 5000,
        encode(Reveal(epoch=7, round=3, attempt=1, number=bytes(16)))[:-1],
        encode(Reveal(epoch=7, round=3, attempt=1, number=bytes(16))).replace(b"reveal", b"rewind"),
        encode(Reveal(epoch=7, round=3, attempt=1, number=bytes(15))),
        encode(UnmaskRequest(epoch=-1, round=3, attempt=1, survivors=b"\x01", dropped=b"\x00", ready=b"")),
        encode(Roster(epoch=7, round=3, attempt=1, neighbours=0, threshold=1, devices=[])),
    ],
)
def test_bytes_that_are_no_message(data: bytes) -> None:
    with pytest.raises(MessageInvalid, match="refused"):
        decode(data)


def test_bitmaps() -> None:
    assert bitmap({0, 9}, 10) == b"\x01\x02"
    assert places(b"\x01\x02", 10) == {0, 9}
    for wrong in (b"\x01", b"\x01\x02\x00", b"\x01\x04"):
        with pytest.raises(MessageInvalid, match="roster of 10"):
            places(wrong, 10)


def test_no_secret_is_shown_in_a_log() -> None:
    world, _ = masked()
    state = world.members[VICTIM].state
    secrets = split_randomness(random_bytes(VICTIM))
    shown = [
        repr(thing)
        for thing in (
            state,
            secrets,
            device.Rules(device=VICTIM, identity=identity(VICTIM)),
            device.Begin(terms(), random_bytes(VICTIM)),
            device.Vector(to_bytes(np.arange(8, dtype=np.uint32))),
            world.state,
        )
    ]
    hidden = [secrets.mask_seed, secrets.self_seed, secrets.share_private, identity(VICTIM), *state.held.values()]
    assert not any(repr(secret)[2:-1] in text for text in shown for secret in hidden)
