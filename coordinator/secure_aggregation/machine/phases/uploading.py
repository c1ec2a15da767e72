"""Phase `uploading`: devices hand in their masked vectors; those that are there by its end are in the sum."""

from __future__ import annotations

from coordinator.secure_aggregation.machine import saying
from coordinator.secure_aggregation.machine.actions import Discard
from coordinator.secure_aggregation.machine.events import Uploaded
from coordinator.secure_aggregation.machine.turn import Turn
from edge_sdk.errors import AttemptMismatch, MessageInvalid
from edge_sdk.secure_aggregation import Ready, bitmap, ready_content


def take(turn: Turn, place: int, message: Ready) -> None:
    """Take in a device's signature of those whom it masks for."""
    state = turn.state
    content = ready_content(state.terms, state.digest, bitmap(state.sharers, len(state.roster)))
    turn.check_signature(state.roster[place], message, content)
    turn.set(ready={**state.ready, place: message.signature})


def uploaded(turn: Turn, event: Uploaded) -> None:
    """Take in a masked vector that is stored."""
    place, state = turn.place(event.device), turn.state
    if state.uploads.get(place) == event.sha256:
        if state.phase != "uploading":  # there its Ready is missing, which it repeats by itself
            saying.repeat_to(turn, event.device)
        return
    if state.phase != "uploading" or place not in state.sharers or place in state.uploads:
        raise AttemptMismatch(f"The masked vector of {event.device!r} is not in the sum: it came too late, or twice.")
    if event.size != 4 * state.terms.words:
        raise MessageInvalid(f"A masked vector of {event.size} bytes; those of this sum have {4 * state.terms.words}.")
    turn.set(uploads={**state.uploads, place: event.sha256})


def end(turn: Turn) -> None:
    """Fix who is in the sum."""
    uploads = turn.state.uploads
    there = frozenset(uploads.keys() & turn.state.ready.keys())
    if turn.are_enough(len(there), "handed in their masked vectors"):
        turn.actions += [Discard(sha256) for place, sha256 in uploads.items() if place not in there]
        kept = {place: sha256 for place, sha256 in uploads.items() if place in there}
        turn.set(survivors=there, uploads=kept, phase="consenting")
        saying.announce(turn)
