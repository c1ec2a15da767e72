"""Updates that devices offer, and that are stored or spoiled."""

from __future__ import annotations

from msgspec.structs import replace

from coordinator.rounds.decisions import (
    counted_before,
    may_count_later,
    member_for,
    problem_with,
    sets_pace,
)
from coordinator.rounds.machine import masks
from coordinator.rounds.machine.actions import Fetch
from coordinator.rounds.machine.events import (
    Offered,
    Spoiled,
    Stored,
)
from coordinator.rounds.machine.turn import Turn
from coordinator.rounds.state import Table, Update
from edge_sdk.wire import (
    Committed,
    Offer,
)


def offered(turn: Turn, event: Offered) -> None:
    """Fetch an update that would count."""
    if _can_count(turn, event.device, event.offer):
        turn.actions.append(Fetch(event.device, event.offer))


def stored(turn: Turn, event: Stored) -> None:
    """Count an update, and acknowledge it."""
    name, offer = event.device, event.offer
    if not _can_count(turn, name, offer):  # the round may have closed while the update was on its way
        return
    if turn.open_round().sum_of(name) is not None:
        masks.stored(turn, event)
        return
    current, member = turn.open_round(), member_for(turn.rules, turn.state, name, offer)
    assert member is not None, "it can count"
    update = Update(
        manifest=offer.manifest,
        member=member,
        norm=event.norm,
        late=current.number - offer.round,
        **offer.stats.figures(),
    )
    pace = turn.now - current.opened if not update.late and sets_pace(turn.state, name, turn.now) else current.pace
    counted = replace(current, updates=Table(current.updates).put(name, update), pace=pace)
    turn.change([name], current=counted)
    turn.send(name, Committed(sha256=offer.manifest.sha256))
    turn.report(
        "update_counted",
        round=current.number,
        device=name,
        cluster=member.cluster,
        late=update.late,
        **update.figures(),
        size=update.manifest.size,
    )


def spoiled(turn: Turn, event: Spoiled) -> None:
    """Refuse an update that cannot be used; if that is final, nobody waits for its device any more."""
    name, offer = event.device, event.offer
    turn.refuse(name, event.code, event.reason, about=offer.manifest.sha256)
    if event.final and turn.state.current and turn.state.current.sum_of(name):
        return  # the sum goes on without it, or with another offer
    if event.final and member_for(turn.rules, turn.state, name, offer):
        current = turn.open_round()
        refused = Table(current.refused).put(name, event.code)
        turn.change([name], current=replace(current, refused=refused))


def _can_count(turn: Turn, name: str, offer: Offer) -> bool:
    """Return True if an update would count now; otherwise tell its device why not."""
    if counted_before(turn.state, name, offer):
        turn.send(name, Committed(sha256=offer.manifest.sha256))
    elif may_count_later(turn.rules, turn.state, name, offer):
        pass  # the device repeats its offer
    elif problem := problem_with(turn.rules, turn.state, name, offer):
        turn.refuse(name, *problem, about=offer.manifest.sha256)
    else:
        return True
    return False
