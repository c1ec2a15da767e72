"""Rosters and shares that a coordinator makes up are refused by name, and change nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from coordinator import secure_aggregation as server
from edge_sdk.errors import (
    AttemptMismatch,
    ImpastoError,
    MessageInvalid,
    RosterInvalid,
    ShareInvalid,
    TooFewDevices,
)
from edge_sdk.secure_aggregation import (
    SEALED_BYTES,
    Delivery,
    FromCoordinator,
    Roster,
    bitmap,
    device,
)
from edge_sdk.secure_aggregation.keys import advertised, split_randomness
from tests.secure_aggregation.hostile import NAMES, VICTIM, refusal, tampered
from tests.secure_aggregation.world import World, identity, random_bytes, terms


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
