"""The last update in the journal: handed in by itself or in a masked sum, its progress noted."""

from __future__ import annotations

from msgspec.structs import replace

from edge_sdk.membership.rounds.actions import Draw, HandIn, Note, Restate
from edge_sdk.membership.rounds.machine import intervals, saying
from edge_sdk.membership.rounds.machine.turn import Turn
from edge_sdk.membership.rounds.state import Progress, Work
from edge_sdk.wire import RoundStart


def hand_in(turn: Turn, *, late: int = 0, instead_of: RoundStart | None = None, counted: bool = False) -> None:
    """Offer the last update.

    Args:
        turn: the turn.
        late: rounds after its own in which it may count.
        instead_of: the open round, if it is a later one; it is turned to if the update is refused.
        counted: see `State`.
    """
    saying.join_first(turn)
    work, _ = turn.offered()
    start = turn.state.step
    if not counted and isinstance(start, RoundStart) and turn.plan(start) == work.plan:
        restate(turn, work, start.attempt)
    turn.move("handing_in")
    turn.set(late=late, next=instead_of, restated=False, counted=counted, vain=0, asked_at=None)
    note_progress(turn, "offered")
    turn.set(until=turn.now + (intervals.CONFIRM if counted else turn.rules.deadline))
    hand_over(turn)


def sum_up(turn: Turn, start: RoundStart) -> None:
    """Take part in the masked sum that a RoundStart asks for, with the last update."""
    saying.join_first(turn)
    work, _ = turn.offered()
    turn.move("summing")
    turn.set(step=start, next=None, stored=False, vain=0, asked_at=None, pause=intervals.REPEAT)
    turn.set(until=turn.now + turn.rules.deadline, say_at=turn.now + intervals.REPEAT)
    note_progress(turn, "offered")
    turn.tell("sum_begun", round=start.round)
    turn.actions.append(Draw(work.plan, start))


def hand_over(turn: Turn) -> None:
    """Have the offer said, and pulls for its update answered."""
    work, offer = turn.offered()
    turn.set(say_at=turn.now + intervals.REPEAT)
    turn.actions.append(HandIn(work.plan, offer))


def restate(turn: Turn, work: Work, attempt: int) -> None:
    """Make the offer one for this attempt, as the round may have been abandoned and opened again."""
    assert work.offer is not None, "it is offered"
    if work.offer.attempt != attempt:
        offer = replace(work.offer, attempt=attempt)
        turn.set(outbox=replace(work, offer=offer))
        turn.actions.append(Restate(work.plan, offer))


def note_progress(turn: Turn, progress: Progress) -> None:
    """Note the progress of the last update. One that is committed stays so, whatever comes later."""
    work, _ = turn.offered()
    if work.progress not in ("committed", progress):
        turn.set(outbox=replace(work, progress=progress))
        turn.actions.append(Note(work.plan, progress))
