"""Questions of a clustering, where this device chooses its cluster alone: it answers them in masked sums.

At level "local+dp" answers have noise. What limits them is the owner's epsilon, not the company of two sums: an answer
is paid for before it leaves, and once, however often it is said again.
"""

from __future__ import annotations

from edge_sdk.errors import AttemptMismatch, MessageInvalid, PrivacyRefused
from edge_sdk.membership.rounds.actions import Draw
from edge_sdk.membership.rounds.machine import intervals, saying
from edge_sdk.membership.rounds.machine.turn import Turn
from edge_sdk.privacy import Question, check_company, cost, read_question
from edge_sdk.secure_aggregation import Roster
from edge_sdk.wire import ClusterStart


def begin(turn: Turn, start: ClusterStart) -> bool:
    """Take part in the sum that answers a question; return False if it must not be answered, of which is told."""
    try:
        question = _checked(turn, start)
    except (MessageInvalid, AttemptMismatch, PrivacyRefused) as error:
        turn.tell("question_refused", code=type(error).__name__, reason=str(error))
        return False
    saying.join_first(turn)
    turn.move("summing")
    turn.set(step=start, next=None, stored=False, vain=0, asked_at=None, pause=intervals.REPEAT)
    turn.set(until=turn.now + turn.rules.deadline, say_at=turn.now + intervals.REPEAT)
    turn.tell("question_asked", question=question.number, kind=question.kind)
    turn.actions.append(Draw(turn.plan(start), start))
    return True


def check_roster(turn: Turn, start: ClusterStart, roster: Roster) -> None:
    """Raise RosterInvalid if the difference to the last sum would show single codes. Noise hides these anyway."""
    if start.noise is None:
        check_company({entry.device for entry in roster.devices}, turn.state.answered_last.devices, start.smallest)


def _checked(turn: Turn, start: ClusterStart) -> Question:
    """Return the question.

    Raises:
        MessageInvalid: it is none.
        AttemptMismatch: it does not follow the last one.
        PrivacyRefused: the owner does not allow answers, or no more of them (PrivacyBudgetSpent).
    """
    if not turn.rules.code:
        raise PrivacyRefused(
            f"Federation {turn.rules.federation!r} asks how this device's taste lies, and its owner does not allow "
            'privacy level "local" or "local+dp": nothing is sent.'
        )
    question = read_question(start.question)
    if start.noise is None:
        turn.state.answered_last.check(question)
    elif not _is_paid(turn, start):
        turn.state.spent.check(cost(question, start.noise), turn.rules.epsilon, start.noise.delta)
    return question


def _is_paid(turn: Turn, start: ClusterStart) -> bool:
    """Return True if the answer has left before, in the sum that the step asks for."""
    known = turn.state.sum
    return known.terms is not None and bool(known.masked) and known.terms.numbers == (
        start.masking.epoch, 0, start.attempt,
    )  # fmt: skip
