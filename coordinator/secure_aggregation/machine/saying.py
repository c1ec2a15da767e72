"""Messages of the coordinator to devices, in each phase."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from coordinator.secure_aggregation.machine.actions import Send
from coordinator.secure_aggregation.machine.turn import Turn
from edge_sdk.secure_aggregation import (
    SEALED_BYTES,
    Consents,
    Delivery,
    FromCoordinator,
    Numbers,
    Roster,
    UnmaskRequest,
    bitmap,
)

_T = TypeVar("_T", bound=FromCoordinator)


def announce(turn: Turn) -> None:
    """Say what the present phase has to say, to all whom it waits for."""
    names = tuple(sorted(turn.state.awaited))
    if turn.state.phase in ("revealing", "sharing"):
        turn.actions.append(Send(names, _message(turn, names[0])))
    else:
        turn.actions += [Send((name,), _message(turn, name)) for name in names]


def repeat_to(turn: Turn, device: str) -> None:
    """Say to a device that repeats itself what it may have missed."""
    if device in turn.state.awaited:
        turn.actions.append(Send((device,), _message(turn, device)))


def _message(turn: Turn, device: str) -> FromCoordinator:
    state = turn.state
    match state.phase:
        case "revealing":
            return _roster(turn)
        case "sharing" if state.seed:
            numbers = b"".join(state.numbers[place] for place in range(len(state.roster)))
            return _made(turn, Numbers, numbers=numbers)
        case "sharing":
            return _roster(turn)
        case "uploading":
            return _delivery(turn, turn.place(device))
    assert state.phase in ("consenting", "unmasking"), f"nothing is said in phase {state.phase}"
    place = turn.place(device)
    if state.phase == "unmasking" and place in state.consents:
        devices, signatures = turn.consents
        return _made(turn, Consents, devices=devices, signatures=signatures)
    survivors, dropped = turn.sets()
    ready = b"".join(state.ready[near] for near in turn.near[place] if near in state.survivors)
    return _made(turn, UnmaskRequest, survivors=survivors, dropped=dropped, ready=ready)


def _roster(turn: Turn) -> FromCoordinator:
    given = turn.state.given
    return _made(turn, Roster, neighbours=given.neighbours, threshold=given.threshold, devices=list(turn.state.roster))


def _delivery(turn: Turn, place: int) -> FromCoordinator:
    state, near = turn.state, turn.near
    sealed = []
    for sender in near[place]:
        if sender in state.sharers:
            number = near[sender].index(place)
            sealed.append(state.shares[sender].sealed[number * SEALED_BYTES : (number + 1) * SEALED_BYTES])
    sharers = bitmap(state.sharers, len(state.roster))
    return _made(turn, Delivery, sharers=sharers, sealed=b"".join(sealed))


def _made(turn: Turn, kind: Callable[..., _T], **fields: Any) -> _T:
    epoch, number, attempt = turn.state.terms.numbers
    return kind(epoch=epoch, round=number, attempt=attempt, **fields)
