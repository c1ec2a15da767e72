"""The devices of a state, counted by the facts that the rules of waiting ask for.

Thousands of devices are too many to be looked at for every event. So they are counted once, and each change of a device
moves it from one count to another. Time moves devices too, from near to gone: a queue holds the times at which it does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple, TypeAlias

from coordinator.rounds.state.device import Device
from coordinator.rounds.state.heap import Queue, popped, pushed, queued
from coordinator.rounds.state.round import Round
from coordinator.rounds.state.table import Table

Part: TypeAlias = Literal["outside", "absent", "counted", "out"]
"""A device's part in the open round: not a member; a member without an update, with a counted one, or out of it."""

# The queue of gone devices may hold so many outdated entries before it is made anew.
_OUTDATED = 64


class Kind(NamedTuple):
    """The facts of a device that the rules of waiting ask for.

    Attributes:
        near: true if it is online, or was heard a moment ago.
        timed: true if it is near until a certain time only.
        left, seen, proven, served: as of a `Device`.
        part: its part in the open round.
    """

    near: bool
    timed: bool
    left: bool
    seen: bool
    proven: bool
    served: bool
    part: Part


class Census:
    """The devices of a state by kind, at one time. Immutable; made from the state, and no part of what is saved.

    Attributes:
        at: the time that the counts hold for.
        kinds: the number of devices of each kind.
    """

    __slots__ = ("_current", "_devices", "_due", "_gone", "_gone_count", "at", "kinds")

    def __init__(self, devices: Table[Device], current: Round | None) -> None:
        self._devices = devices
        self._current = current
        self.at = -math.inf  # from here time moves on to the present
        self.kinds: Mapping[Kind, int]
        kinds: dict[Kind, int] = {}
        for name, device in devices.items():
            kind = _kind(device, part_of(current, name), self.at)
            kinds[kind] = kinds.get(kind, 0) + 1
        self.kinds = kinds
        # A near device with `until` has an entry at that time or before; a gone one without a counted update has one in
        # `gone`. Other entries are outdated.
        timed = ((device.until, name) for name, device in devices.items() if device.until is not None)
        self._due: Queue = queued(timed)
        self._gone: Queue = None
        self._gone_count = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Census)  # it follows from the rest of its state

    __hash__ = None  # type: ignore[assignment]

    def is_of(self, devices: Table[Device], current: Round | None) -> bool:
        """Return True if these are the devices and the open round that it was made from."""
        return devices is self._devices and current is self._current

    def after(self, devices: Table[Device], current: Round | None, names: Iterable[str]) -> Census:
        """Return the census after a change of the state that concerns only the devices with these names."""
        kinds, due, gone, count = dict(self.kinds), self._due, self._gone, self._gone_count
        for name in names:
            old, new = self._devices.get(name), devices.get(name)
            if old is not None:
                _take(kinds, _kind(old, part_of(self._current, name), self.at))
            if new is None:
                continue
            kind = _kind(new, part_of(current, name), self.at)
            kinds[kind] = kinds.get(kind, 0) + 1
            until, before = new.until, old.until if old is not None else None
            if until is None or (until == before and (not old or old.proven == new.proven)):
                continue
            if kind.timed and not (before is not None and self.at < before <= until):
                due = pushed(due, (until, name))
            elif not kind.near and not kind.proven:
                gone, count = pushed(gone, (until, name)), count + 1
        if count > 2 * len(devices) + _OUTDATED:
            return Census(devices, current).by(self.at)
        return self._copy(devices, current, self.at, kinds, due, gone, count)

    def by(self, now: float) -> Census:
        """Return the census at that time; itself if nothing has changed since."""
        if now < self.at:  # a clock that began anew
            return Census(self._devices, self._current).by(now)
        if self._due is None or now < self._due.first[0]:
            return self
        kinds, gone, count = dict(self.kinds), self._gone, self._gone_count
        due: Queue = self._due
        passed: set[str] = set()
        while due is not None and due.first[0] <= now:
            _, name = due.first
            due = popped(due)
            device = self._devices.get(name)
            if device is None or device.until is None or device.until <= self.at or name in passed:
                continue
            if now < device.until:
                due = pushed(due, (device.until, name))
                continue
            passed.add(name)
            part = part_of(self._current, name)
            _take(kinds, _kind(device, part, self.at))
            kind = _kind(device, part, now)
            kinds[kind] = kinds.get(kind, 0) + 1
            if not device.proven:
                gone, count = pushed(gone, (device.until, name)), count + 1
        return self._copy(self._devices, self._current, now, kinds, due, gone, count)

    @property
    def next_due(self) -> float | None:
        """Time of the next look at a device that is near until a certain time; None if there is none."""
        return self._due.first[0] if self._due else None

    def gone(self) -> Iterator[str]:
        """Yield the devices that are not near and have no counted update: first the one that is gone the longest."""
        queue, before = self._gone, None
        while queue is not None:
            entry, queue = queue.first, popped(queue)
            device = self._devices.get(entry[1])
            if entry != before and device and device.until == entry[0] and not device.proven:
                yield entry[1]
            before = entry

    @classmethod
    def _copy(
        cls,
        devices: Table[Device],
        current: Round | None,
        at: float,
        kinds: Mapping[Kind, int],
        due: Queue,
        gone: Queue,
        count: int,
    ) -> Census:
        made = cls.__new__(cls)
        made._devices, made._current, made.at, made.kinds = devices, current, at, kinds
        made._due, made._gone, made._gone_count = due, gone, count
        return made


def part_of(current: Round | None, name: str) -> Part:
    """Return the part of a device in the open round."""
    if current is None or name not in current.cohort:
        return "outside"
    if current.has_delivered(name):
        return "counted"
    return "out" if current.is_out(name) else "absent"


def _kind(device: Device, part: Part, at: float) -> Kind:
    near = device.is_near(at)
    timed = near and device.until is not None
    return Kind(near, timed, device.left, device.seen, device.proven, device.served, part)


def _take(kinds: dict[Kind, int], kind: Kind) -> None:
    if kinds[kind] == 1:
        del kinds[kind]
    else:
        kinds[kind] -= 1
