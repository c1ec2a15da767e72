"""What a federation waits for, read from its state: nothing here changes it."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from coordinator.rounds.opening import is_present
from coordinator.rounds.state import Rules, State


class Awaited(msgspec.Struct, frozen=True):
    """What is waited for.

    Attributes:
        what: "devices" for a round to begin; "updates" of the open round; "goodbyes" of devices that have not said yet
            that they have their adapters.
        there, needed: how many there are, and how many would end the wait at once or, of updates, at the deadline.
        names: the devices that are waited for by name, sorted.
        until: when the wait ends by itself, on the machine's clock; None: never.
    """

    what: Literal["devices", "updates", "goodbyes"]
    there: int
    needed: int
    names: tuple[str, ...] = ()
    until: float | None = None


def awaited(rules: Rules, state: State, now: float) -> Awaited | None:
    """What has to come from outside for the federation to go on; None if nothing."""
    present = sorted(name for name, device in state.devices.items() if is_present(rules, device, now))
    if state.phase == "gathering":
        needed = rules.min_devices if not state.round else max(1, math.ceil(rules.quorum * rules.min_devices))
        return Awaited("devices", len(present), needed)
    if state.phase == "training" and state.current:
        current = state.current
        staying = [name for name in current.cohort if not state.devices[name].left or name in current.updates]
        enough = max(1, math.ceil(rules.quorum * len(staying)))
        names = tuple(name for name in present if name in current.absent)
        return Awaited("updates", len(current.updates), enough, names, current.deadline)
    if state.phase == "finished" and present:
        return Awaited("goodbyes", len(state.devices) - len(present), len(state.devices), tuple(present))
    return None
