"""Whose place a newcomer may take where there are as many devices as may join.

A name costs nothing: names that somebody has made up, and does not use, may keep nobody out.
"""

from __future__ import annotations

from collections.abc import Set

from coordinator.rounds.patience import is_idle
from coordinator.rounds.state import Rules, State


def replaceable(rules: Rules, state: State, now: float, revoked: Set[str]) -> str | None:
    """The device that may make room, None if none may: one that is not there, has no part in the open round, and was
    shut out or has never delivered an update that counts. First those who were shut out, then who is away the longest.
    """
    busy = at_work(rules, state, now)
    spare = (
        (name not in revoked, device.until or 0.0, name)
        for name, device in state.devices.items()
        if not device.is_near(now) and name not in busy and (name in revoked or not device.proven)
    )
    return min(spare, default=(False, 0.0, None))[2]


def at_work(rules: Rules, state: State, now: float) -> Set[str]:
    """Devices with a part in the open round, of which something may come."""
    current = state.current
    if current is None or (state.phase == "training" and is_idle(rules, state, now)):
        return frozenset()
    return current.cohort.keys() | current.updates.keys()
