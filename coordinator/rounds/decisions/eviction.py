"""Places in a full federation: the device that a newcomer may replace.

A name costs nothing, so invented names that are not used must not keep devices out.
"""

from __future__ import annotations

from collections.abc import Set

from coordinator.rounds.decisions.waiting import is_idle
from coordinator.rounds.state import Rules, State


def replaceable(rules: Rules, state: State, now: float, revoked: Set[str]) -> str | None:
    """Return the device that may be replaced, or None if there is none.

    It is away, has no part in the open round, and was revoked or has never delivered a counted update. Revoked devices
    come first, then the one that is away the longest.
    """
    here = (name for name in revoked if name in state.devices)
    shut_out = [n for n in here if not state.devices[n].is_near(now) and not is_at_work(rules, state, n, now)]
    if shut_out:
        return min(shut_out, key=lambda name: (state.devices[name].until or 0.0, name))
    idle = is_abandoned(rules, state, now)
    if not any(not k.near and not k.proven and (idle or k.part == "outside") for k, _ in state.kinds(now)):
        return None
    return next((name for name in state.at(now).gone() if not is_at_work(rules, state, name, now)), None)


def is_at_work(rules: Rules, state: State, name: str, now: float) -> bool:
    """Return True for a device with a part in the open round, unless nothing can come of that round."""
    current = state.current
    if current is None or (name not in current.cohort and name not in current.updates):
        return False
    return not is_abandoned(rules, state, now)


def is_abandoned(rules: Rules, state: State, now: float) -> bool:
    """Return True if nothing can come of the open round, or none is open."""
    return state.current is None or (state.phase == "training" and is_idle(rules, state, now))
