"""Messages of devices: what is of this attempt, by a device of its roster, and new, the phase takes in."""

from __future__ import annotations

from coordinator.secure_aggregation.machine import saying
from coordinator.secure_aggregation.machine.phases import (
    advertising,
    consenting,
    revealing,
    sharing,
    unmasking,
    uploading,
)
from coordinator.secure_aggregation.machine.turn import Turn
from coordinator.secure_aggregation.state import State
from edge_sdk.errors import AttemptMismatch
from edge_sdk.secure_aggregation import (
    Advertise,
    Consent,
    FromDevice,
    Ready,
    Reveal,
    Shares,
    UnmaskAnswer,
)


def heard(turn: Turn, device: str, message: FromDevice) -> None:
    """Take in a message, or raise the reason why it does not count."""
    message.check(turn.state.terms)
    if isinstance(message, Advertise):
        _advertised(turn, device, message)
        return
    place = turn.place(device)
    before, said = _known(turn.state, place, message)
    if before == said:
        # Ready answers the delivery, which would be said again: the two would echo for ever.
        if not (isinstance(message, Ready) and turn.state.phase == "uploading"):
            saying.repeat_to(turn, device)
    elif before is not None:
        raise AttemptMismatch(f"Another {type(message).__name__} of {device!r} came before: that one counts.")
    else:
        _take(turn, place, message)


def _advertised(turn: Turn, device: str, message: Advertise) -> None:
    if turn.state.phase == "advertising":
        advertising.take(turn, device, message.advertisement)
        return
    if turn.state.roster[turn.place(device)] != message.advertisement:
        raise turn.too_late(device, message)
    saying.repeat_to(turn, device)


def _known(state: State, place: int, message: FromDevice) -> tuple[object, object]:
    """Return the content of this kind that the state has from this device, and that of the message."""
    match message:
        case Reveal():
            return state.numbers.get(place), message.number
        case Shares():
            return state.shares.get(place), message
        case Ready():
            return state.ready.get(place), message.signature
        case Consent():
            return state.consents.get(place), message.signature
        case UnmaskAnswer():
            return state.answers.get(place), message.shares
    raise AssertionError("advertisements are taken elsewhere")


def _take(turn: Turn, place: int, message: FromDevice) -> None:
    state = turn.state
    match state.phase, message:
        case "revealing", Reveal():
            revealing.take(turn, place, message)
        case "sharing", Shares():
            sharing.take(turn, place, message)
        case "uploading", Ready() if place in state.sharers:
            uploading.take(turn, place, message)
        case "consenting" | "unmasking", Consent() if place in state.survivors:
            consenting.take(turn, place, message)
        case "unmasking", UnmaskAnswer() if place in state.survivors:
            unmasking.take(turn, place, message)
        case _:
            raise turn.too_late(state.roster[place].device, message)
