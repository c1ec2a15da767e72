"""Updates of this device: trained, counted in a round, committed, refused or lost."""

from __future__ import annotations

from edge_sdk.membership.rounds.actions import Withdraw
from edge_sdk.membership.rounds.events import Delivered, Failed, Trained, Vanished
from edge_sdk.membership.rounds.machine import bringing, intervals, offering, saying, summing
from edge_sdk.membership.rounds.machine.turn import Turn
from edge_sdk.membership.rounds.state import Work
from edge_sdk.wire import ClusterStart, RoundDone, RoundStart

SHARED = (
    "An update of this device counts, but it is not the one that was trained here: another device has its name and "
    "its home, as of a copied card. Give each a home and a name of its own: in the copy delete device_id and "
    "journal.sqlite."
)


def trained(turn: Turn, event: Trained) -> None:
    """Hand in the update of the work that is done."""
    assert turn.state.phase == "training", f"nothing is trained in phase {turn.state.phase}"
    offer, start = event.offer, turn.state.step
    assert isinstance(start, RoundStart), "a round is trained for"
    turn.set(outbox=Work(event.plan, offer.round, "trained", offer))
    turn.tell("trained", round=offer.round, **offer.stats.figures())
    if start.masking is not None:
        offering.sum_up(turn, start)
    else:
        offering.hand_in(turn, late=start.late)


def round_done(turn: Turn, done: RoundDone) -> None:
    """Take in the end of a round, which says whether an update of this device counted in it.

    It may be another's, of a device with the same name: if the own one was not answered, its answer is asked for.
    """
    if done.round == 0:
        _question_done(turn)
        return
    turn.tell("round_done", round=done.round, accepted=done.accepted, updates=done.updates)
    if turn.state.phase == "handing_in":
        _done_meanwhile(turn, done)
    elif turn.state.phase == "summing":
        _summed(turn, done)
    elif turn.state.phase == "waiting":
        turn.set(until=turn.now + turn.rules.deadline)
        last = turn.state.outbox
        if done.accepted and last and last.progress == "offered" and last.round <= done.round and not _is_masked(turn):
            turn.set(step=None)
            offering.hand_in(turn, counted=True)


def delivered(turn: Turn, event: Delivered) -> None:
    """Note that the coordinator has stored the update."""
    if turn.is_offered(event.sha256):
        if not turn.state.counted:  # a newer round that came meanwhile is the one in which it counts
            turn.set(next=None)
        commit(turn)


def commit(turn: Turn) -> None:
    """Note that the offered update counts, and leave it."""
    _note_committed(turn)
    leave(turn)


def _note_committed(turn: Turn) -> None:
    work, offer = turn.offered()
    offering.note_progress(turn, "committed")
    turn.set(rounds_of={**turn.state.rounds_of, offer.manifest.sha256: offer.round})
    if work.plan not in turn.state.committed:
        turn.set(committed=turn.state.committed | {work.plan})
        turn.tell("update_committed", round=offer.round, size=offer.manifest.size)


def refused(turn: Turn, event: Failed) -> None:
    """Take in a refusal of the offer; the first one after a new attempt may be of the former attempt."""
    if turn.state.restated:
        saying.join_first(turn)
        turn.set(restated=False)
        offering.hand_over(turn)
        return
    _, offer = turn.offered()
    offering.note_progress(turn, "refused")
    turn.tell("update_refused", round=offer.round, reason=str(event.error))
    if turn.state.counted:
        turn.tell("identity_shared", round=offer.round, reason=SHARED)
    leave(turn)


def vanished(turn: Turn, event: Vanished) -> None:
    """Do the work anew whose update is lost, or that it was to come in place of."""
    known = turn.state.outbox
    if turn.state.phase not in ("handing_in", "summing") or known is None or known.plan != event.plan:
        return
    step = turn.state.step
    turn.set(outbox=None)
    if turn.state.counted or not isinstance(step, RoundStart):
        bringing.wait(turn)
    else:
        turn.set(next=None)
        bringing.bring(turn, step)


def leave(turn: Turn) -> None:
    """End the handing in: the update is settled, or it can count no more."""
    _, offer = turn.offered()
    turn.actions.append(Withdraw(offer.manifest.sha256))
    bringing.wait(turn)


def _question_done(turn: Turn) -> None:
    if turn.state.phase == "summing" and isinstance(turn.state.step, ClusterStart):
        summing.leave(turn)


def _is_masked(turn: Turn) -> bool:
    """Return True if the last update is summed under masks: nobody can take it by itself."""
    last, terms = turn.state.outbox, turn.state.sum.terms
    return last is not None and terms is not None and terms.round == last.round


def _summed(turn: Turn, done: RoundDone) -> None:
    """Take in the end of a round under masks, which alone says whether the update counts."""
    if isinstance(turn.state.step, ClusterStart):
        return  # it is forged, or of a round that is long over
    _, offer = turn.offered()
    if done.round < offer.round:
        return
    if done.round == offer.round and done.accepted:
        _note_committed(turn)
    else:
        offering.note_progress(turn, "refused")
        turn.tell("update_refused", round=offer.round, reason="the masked sum of its round was made without it")
    summing.leave(turn)


def _done_meanwhile(turn: Turn, done: RoundDone) -> None:
    _, offer = turn.offered()
    if done.round < offer.round:
        return
    if isinstance(turn.state.next, RoundStart) and turn.state.next.round <= done.round:
        turn.set(next=None)
    if done.accepted:
        turn.set(counted=True, until=turn.now + intervals.CONFIRM)
        saying.say_offer(turn)
    elif done.round >= offer.round + turn.state.late:
        leave(turn)
