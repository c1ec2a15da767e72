"""Phase `advertising`: devices show their keys; who has come by its end is in the roster."""

from __future__ import annotations

from coordinator.secure_aggregation.machine import saying
from coordinator.secure_aggregation.machine.turn import Turn
from edge_sdk.errors import AttemptMismatch, ConfigurationError, RosterInvalid, SignatureInvalid, TooFewDevices
from edge_sdk.secure_aggregation import (
    FEWEST_DEVICES,
    Advertisement,
    has_usable_keys,
    is_signed,
    roster_hash,
)


def take(turn: Turn, device: str, advertisement: Advertisement) -> None:
    """Take in an advertisement."""
    state = turn.state
    known = state.advertised.get(device)
    if known == advertisement:
        return
    if known is not None:
        raise AttemptMismatch(f"Another advertisement of {device!r} came before in this attempt: that one counts.")
    if device not in state.cohort or advertisement.device != device:
        raise RosterInvalid(f"{device!r} is not asked to take part, or advertises itself under another name.")
    if not is_signed(state.terms, advertisement):
        raise SignatureInvalid(
            f"The advertisement of {device!r} is not signed for this step and attempt by the identity in it."
        )
    if not has_usable_keys(advertisement):
        raise RosterInvalid(f"{device!r} advertises a key of low order, with which no secret can be agreed on.")
    for other in state.advertised.values():
        same = {*advertisement.signed_fields} & {*other.signed_fields}
        if same:
            raise RosterInvalid(f"{device!r} shows a key or a commitment of {other.device!r}.")
    turn.set(advertised={**state.advertised, device: advertisement})


def end(turn: Turn) -> None:
    """Fix the roster."""
    state = turn.state
    roster = tuple(entry for _, entry in sorted(state.advertised.items()))
    if len(roster) < FEWEST_DEVICES:
        turn.abandon(
            TooFewDevices(
                f"{len(roster)} of {len(state.cohort)} devices have advertised keys for a masked sum, which takes "
                f"{FEWEST_DEVICES} at least."
            )
        )
        return
    try:
        given = state.terms.policy.parameters(len(roster))
    except ConfigurationError as error:
        turn.abandon(TooFewDevices(f"{len(roster)} devices have advertised keys. {error}"))
        return
    complete = given.neighbours == len(roster) - 1
    digest = roster_hash(state.terms, given, roster)
    turn.set(roster=roster, given=given, digest=digest, advertised={}, phase="sharing" if complete else "revealing")
    saying.announce(turn)
