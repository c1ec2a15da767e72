"""Erasing of devices: whose owner asks that nothing of it is kept takes no part any more, and nobody waits for it.

An update that counts in the open round is taken out of it, also while the round is aggregated: that begins anew. A
masked sum cannot give a vector back. So of a member of one only the name is kept, as of a device that has left, until
its round is over. What was aggregated before cannot be taken back either.
"""

from __future__ import annotations

from msgspec.structs import replace

from coordinator.rounds.machine.actions import Erased
from coordinator.rounds.machine.events import Erase, Event, Joined
from coordinator.rounds.machine.phases import aggregating, clustering, training
from coordinator.rounds.machine.turn import Turn
from coordinator.rounds.state import Device, Round, State, Table


def erase(turn: Turn, event: Erase) -> None:
    """Delete a device from the state; one that is not there is confirmed all the same."""
    name, state = event.device, turn.state
    turn.change([], alone=state.alone.without(name))
    state = turn.state
    known, current = state.devices.get(name), state.current
    past = {number: replace(closed, absent=Table(closed.absent).drop(name)) for number, closed in state.past.items()}
    in_sum = current is not None and name in current.cohort and current.cohort[name].sum is not None
    if known is not None and in_sum:
        kept = Device(max_rank=known.max_rank, until=turn.now, left=True, erased=True)
        turn.change([name], devices=state.table.put(name, kept), past=past)
    elif known is not None:
        rest = None if current is None else _without(current, name)
        turn.change([name], devices=state.table.drop(name), past=past, current=rest)
        _go_on(turn, current)
    if known is not None and not known.erased:
        turn.report("device_erased", device=name)
    turn.actions.append(Erased(name, event.key))


def is_of_erased(state: State, event: Event) -> bool:
    """Return True for what comes late of a device that was erased; only a new Join counts."""
    device = None if isinstance(event, Joined | Erase) else state.devices.get(getattr(event, "device", ""))
    return device is not None and device.erased


def settle(turn: Turn, before: State) -> None:
    """Delete the names that were kept for a round, once it is over."""
    if before.current is None or turn.state.current is not None:
        return
    gone = [name for name, device in turn.state.devices.items() if device.erased]
    if gone:
        table, past = turn.state.table, turn.state.past
        for name in gone:
            table = table.drop(name)
            past = {number: replace(closed, absent=Table(closed.absent).drop(name)) for number, closed in past.items()}
        turn.change(gone, devices=table, past=past)


def _without(current: Round, name: str) -> Round:
    """Return the open round without a device."""
    if name not in current.cohort and name not in current.updates and name not in current.refused:
        return current
    return replace(
        current,
        cohort={other: member for other, member in current.cohort.items() if other != name},
        updates=Table(current.updates).drop(name),
        refused=Table(current.refused).drop(name),
    )


def _go_on(turn: Turn, before: Round | None) -> None:
    """Ask again for what is computed of a device that is gone; give a round up that has nobody left, and no update that
    came late for an earlier round."""
    if turn.state.phase == "clustering":
        clustering.ask(turn)
    elif before is None or turn.state.current is before:
        return
    elif turn.state.phase == "aggregating" and not turn.open_round().updates:
        training.abandon(turn, "the devices that delivered have asked to be forgotten")
    elif turn.state.phase == "aggregating":
        aggregating.ask(turn)
    elif not turn.open_round().cohort and not turn.open_round().updates:
        training.abandon(turn)
