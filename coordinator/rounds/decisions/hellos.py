"""Hellos of devices that have nothing to be told, so that no step of the machine is needed for them."""

from __future__ import annotations

from coordinator.rounds.decisions.sums import takes_part
from coordinator.rounds.state import State


def has_all(state: State, device: str) -> bool:
    """Return True if a device is online and misses nothing: no RoundStart of the open round, no Finished.

    False for a device that has not joined, or has left.
    """
    known, current = state.devices.get(device), state.current
    if known is None or known.left or known.until is not None:
        return False
    if state.phase == "finished":
        return known.served
    return state.phase != "training" or current is None or not owes_update(state, device)


def owes_update(state: State, device: str) -> bool:
    """Return True for a member of the open round of which no update came that counts, or is refused for good.

    Under masks it owes its part until the sum is over: the round's step brings a device back into it.
    """
    current = state.current
    if current is not None and (masked := current.sum_of(device)) is not None:
        return takes_part(masked, device)
    return (
        current is not None
        and device in current.cohort
        and device not in current.updates
        and device not in current.refused
    )
