"""The saved form of a state: one record a device, and a head with everything else.

A change of one device changes its record alone, and mostly not even the head. `touched` finds the records to write.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from coordinator import secure_aggregation
from coordinator.rounds.state.alone import Alone
from coordinator.rounds.state.device import Device, Member, Update
from coordinator.rounds.state.lineage import Lineage
from coordinator.rounds.state.round import Past, Round, RoundHead
from coordinator.rounds.state.state import Phase, State
from coordinator.rounds.state.table import Table

FORMAT = 2
"""Version of the form. Version 1 was the whole state in one piece."""


class Head(msgspec.Struct, frozen=True, array_like=True):
    """A state without its devices; attributes as of `State`.

    It is encoded as an array, which versions that know the first form only cannot take for a state without devices.

    Attributes:
        format: `FORMAT`.
        past: closed rounds and the numbers of their last openings.
        sums: masked sums of the open round without their devices.
    """

    format: int
    phase: Phase
    round: int
    attempt: int
    root: Lineage
    clusters: dict[int, Lineage]
    next_cluster: int
    margin: float | None
    pace: float | None
    ends: float | None
    current: RoundHead | None
    past: dict[int, int]
    sums: dict[int, secure_aggregation.Head] = {}
    resting: float | None = None
    alone: Alone = Alone()


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that a state has of one device.

    Attributes:
        device: the device; None for one that the state knows by its update alone.
        member: its role in the open round; None if it is no member.
        update: its counted update in the open round; None if there is none.
        refused: name of the reason why its update was refused; None if it was not.
        absent: closed rounds that it has not delivered in, and its roles there.
        part: its part in a masked sum of the open round; None if it is in none.
    """

    device: Device | None = None
    member: Member | None = None
    update: Update | None = None
    refused: str | None = None
    absent: dict[int, Member] = {}
    part: secure_aggregation.Part | None = None


_NOBODY = Record()


def head_of(state: State) -> Head:
    """Return the head of a state."""
    current = state.current
    return Head(
        format=FORMAT,
        phase=state.phase,
        round=state.round,
        attempt=state.attempt,
        root=state.root,
        clusters=state.clusters,
        next_cluster=state.next_cluster,
        margin=state.margin,
        pace=state.pace,
        ends=state.ends,
        current=RoundHead(**_fields(current)) if current else None,
        past={number: closed.attempt for number, closed in state.past.items()},
        sums={number: secure_aggregation.head_of(masked) for number, masked in current.sums.items()} if current else {},
        resting=state.resting,
        alone=state.alone,
    )


def records_of(state: State, names: Iterable[str]) -> dict[str, Record | None]:
    """Return the records of devices; None for a device that the state has nothing of."""
    sums = state.current.sums.values() if state.current else ()
    wanted = set(names)
    parts = {name: part for masked in sums for name, part in secure_aggregation.parts_of(masked, wanted).items()}
    return {name: _record(state, name, parts.get(name)) for name in wanted}


def _record(state: State, name: str, part: secure_aggregation.Part | None) -> Record | None:
    current = state.current
    made = Record(
        device=state.devices.get(name),
        member=current.cohort.get(name) if current else None,
        update=current.updates.get(name) if current else None,
        refused=current.refused.get(name) if current else None,
        absent={number: closed.absent[name] for number, closed in state.past.items() if name in closed.absent},
        part=part,
    )
    return None if made == _NOBODY else made


def touched(before: State | None, after: State) -> set[str]:
    """Return the devices whose records may differ between two states; all with `before` None."""
    old, new = before or State(), after
    names = set(new.table.changed_from(old.devices))
    if old.current is not new.current:
        names.update(_touched_in_round(old.current, new.current))
    if old.past != new.past:
        nobody = Past(0, {})
        for number in old.past.keys() | new.past.keys():
            absent = Table(new.past.get(number, nobody).absent)
            names.update(absent.changed_from(old.past.get(number, nobody).absent))
    return names


def restored(head: Head, records: Mapping[str, Record]) -> State:
    """Return the state of a head and all records."""
    entries = sorted(records.items())
    current = (
        None
        if head.current is None
        else Round(
            **_fields(head.current),
            cohort={name: record.member for name, record in entries if record.member},
            updates={name: record.update for name, record in entries if record.update},
            refused={name: record.refused for name, record in entries if record.refused is not None},
            sums=_sums(head.sums, records),
        )
    )
    return State(
        phase=head.phase,
        round=head.round,
        attempt=head.attempt,
        devices={name: record.device for name, record in entries if record.device},
        current=current,
        past={
            number: Past(attempt, {name: record.absent[number] for name, record in entries if number in record.absent})
            for number, attempt in head.past.items()
        },
        root=head.root,
        clusters=head.clusters,
        next_cluster=head.next_cluster,
        margin=head.margin,
        pace=head.pace,
        ends=head.ends,
        resting=head.resting,
        alone=head.alone,
    )


def from_first_form(data: bytes) -> State:
    """Return a state that was saved in one piece, as msgpack.

    Raises:
        msgspec.DecodeError: it is no such state.
    """
    return msgspec.msgpack.decode(data, type=State)


def _touched_in_round(old: Round | None, new: Round | None) -> Iterator[str]:
    if old is None or new is None or old.cohort is not new.cohort:
        for current in (old, new):
            if current is not None:
                yield from current.cohort
                yield from current.updates
                yield from current.refused
        return
    yield from Table(new.updates).changed_from(old.updates)
    yield from Table(new.refused).changed_from(old.refused)
    for number in new.sums:  # the cohort is the same, and so are the numbers of its sums
        yield from secure_aggregation.touched(old.sums.get(number), new.sums[number])


def _sums(
    heads: Mapping[int, secure_aggregation.Head], records: Mapping[str, Record]
) -> dict[int, secure_aggregation.State]:
    parts: dict[int, dict[str, secure_aggregation.Part]] = {number: {} for number in heads}
    for name, record in records.items():
        if record.member and record.member.sum is not None and record.part is not None:
            parts[record.member.sum][name] = record.part
    return {number: secure_aggregation.restored(head, parts[number]) for number, head in heads.items()}


def _fields(current: RoundHead) -> dict[str, Any]:
    return {name: getattr(current, name) for name in RoundHead.__struct_fields__}
