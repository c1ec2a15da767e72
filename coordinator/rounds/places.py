"""Places in a full federation: the device that a newcomer may replace.

A name costs nothing, so invented names that are not used must not keep devices out.
"""

from __future__ import annotations

from collections.abc import Set

from coordinator.rounds.patience import is_idle
from coordinator.rounds.state import Rules, State


def replaceable(rules: Rules, state: State, now: float, revoked: Set[str]) -> str | None:
    """Return the device that may be replaced, or None if there is none.

    It is away, has no part in the open round, and was revoked or has never delivered a counted update. Revoked devices
    come first, then the one that is away the longest.
    """
    busy = at_work(rules, state, now)
    spare = (
        (name not in revoked, device.until or 0.0, name)
        for name, device in state.devices.items()
        if not device.is_near(now) and name not in busy and (name in revoked or not device.proven)
    )
    return min(spare, default=(False, 0.0, None))[2]


def at_work(rules: Rules, state: State, now: float) -> Set[str]:
    """Return the devices with a part in the open round, or none if nothing can come of that round."""
    current = state.current
    if current is None or (state.phase == "training" and is_idle(rules, state, now)):
        return frozenset()
    return current.cohort.keys() | current.updates.keys()
