"""Questions of a clustering by sums, where devices choose their clusters alone: asked, answered, and asked again.

A question is a round without a number: its sum is made as that of any round under masks, but loses no device, and is in
company that hides its devices beside the sum before (`edge_sdk.privacy.hides`). If a device is lost on the way, nothing
is unmasked, and the question is asked again without it, and without a few others. Where answers have noise, a sum may
lose devices as any other, and be in any company. The learning thread makes the next
question of the sum, until it has found clusters. Each round counts the devices of each cluster in the same way.
"""

from __future__ import annotations

from msgspec.structs import replace

from coordinator.rounds.decisions import (
    asked,
    enough_to_begin,
    is_waiting,
    may_be_summed,
    next_question,
    present,
    round_start,
)
from coordinator.rounds.machine import masks
from coordinator.rounds.machine.actions import Cluster
from coordinator.rounds.machine.events import Failed, Grouped, Inquired, Numbered
from coordinator.rounds.machine.turn import Turn
from coordinator.rounds.state import Asking, Counted, Lineage
from edge_sdk.privacy import read_question
from edge_sdk.wire import RoundDone, clusters_in


def ask(turn: Turn) -> None:
    """Ask the present question, or for the first one."""
    state, alone = turn.state, turn.state.alone
    if alone.asking is None:
        clustering = alone.clusterings + 1
        turn.actions.append(
            Cluster(state.round + 1, {}, state.next_cluster, clustering=clustering, epoch=turn.rules.epoch)
        )
        return
    opened = next_question(turn.rules, state, turn.now)
    if opened is None:
        _wait_for_company(turn)
        return
    turn.set(phase="training", current=opened, attempt=opened.attempt)
    question = read_question(opened.question)
    turn.report(
        "question_asked",
        clustering=question.clustering,
        question=question.number,
        kind=question.kind,
        cohort=sorted(opened.cohort),
    )
    for name in opened.cohort:
        turn.send(name, round_start(turn.rules, turn.state, name, turn.now))


def inquired(turn: Turn, event: Inquired) -> None:
    """Ask a question that was made: the first one of a clustering, or the one that follows from the last sum."""
    alone = turn.state.alone
    if turn.state.phase == "clustering" and alone.asking is None and not alone.centroids:
        begun = Asking(event.state, event.question)
        turn.set(alone=replace(alone, clusterings=alone.clusterings + 1, asking=begun))
        ask(turn)
    elif _is_answered(turn):
        devices = frozenset(turn.open_round().summed)
        turn.set(alone=replace(alone, asking=Asking(event.state, event.question, devices)))
        _end(turn)


def grouped(turn: Turn, event: Grouped) -> None:
    """Take the clusters over, among which devices choose alone from now on."""
    if not _is_answered(turn):
        return
    clusters = range(clusters_in(event.centroids))
    turn.set(
        alone=replace(turn.state.alone, asking=None, centroids=event.centroids),
        clusters={cluster: Lineage() for cluster in clusters},
        next_cluster=len(clusters),
    )
    turn.report("clusters_found", clusters=len(clusters), **event.figures)
    _end(turn)


def numbered(turn: Turn, event: Numbered) -> None:
    """Open the round again, with the devices that were counted and the slots of their clusters."""
    current = turn.state.current
    if turn.state.phase != "aggregating" or current is None or current.number != event.round or not current.is_count:
        return
    counted = Counted(event.round, frozenset(current.summed), event.counts, event.slots)
    turn.report("clusters_counted", round=event.round, counts=list(event.counts), slots=list(event.slots))
    turn.set(phase="gathering", current=None, alone=replace(turn.state.alone, counted=counted))


def failed(turn: Turn, event: Failed) -> None:
    """Ask again after a while, as the sum is none: somebody has sent another vector, or the masks did not cancel."""
    turn.report("clustering_failed", round=turn.state.round + 1, code=event.code, reason=event.reason)
    alone = replace(turn.state.alone, counted=None)
    turn.set(phase="gathering", current=None, alone=alone, resting=turn.now + turn.rules.grace)


def settle(turn: Turn) -> None:
    """Fix the company of a sum when nobody more is waited for, if it hides its devices; otherwise ask anew."""
    current = turn.open_round()
    if turn.now < current.deadline and is_waiting(turn.rules, turn.state, turn.now):
        return
    there = frozenset(name for masked in current.sums.values() for name in masked.advertised)
    if may_be_summed(turn.rules, turn.state, there):
        masks.close(turn)
        return
    silent = current.cohort.keys() - there
    masks.note_silent(turn, silent)
    abandon(
        turn,
        f"{len(silent)} devices do not answer, and too few are left"
        if turn.rules.noise is not None
        else f"{len(silent)} devices do not answer: a sum without them alone would differ from the last one by their "
        "codes",
    )


def abandon(turn: Turn, reason: str) -> None:
    """End the sum, of which nothing comes; the question is asked again, of devices that hide each other."""
    turn.report("question_abandoned", clustering=turn.state.alone.clusterings, reason=reason)
    turn.set(phase="gathering", current=None)


def note_agreed(turn: Turn) -> None:
    """Note the devices of a sum that is to be unmasked: the next one is compared with it."""
    turn.set(alone=replace(turn.state.alone, last=frozenset(turn.open_round().summed)))


def _is_answered(turn: Turn) -> bool:
    current = turn.state.current
    return turn.state.phase == "aggregating" and current is not None and bool(current.question)


def _end(turn: Turn) -> None:
    """End the question's sum, and tell its devices."""
    current = turn.open_round()
    turn.set(phase="gathering", current=None)
    summed = current.summed
    for name in sorted(current.cohort):
        turn.send(name, RoundDone(round=0, accepted=name in summed, updates=len(summed)))


def _wait_for_company(turn: Turn) -> None:
    """Wait a while for devices that hide each other; begin the clustering anew if that is possible at once."""
    rules, alone = turn.rules, turn.state.alone
    assert alone.asking is not None, "there is a question"
    anew = replace(alone, asking=None)
    if (
        rules.noise is None
        and alone.asking.devices
        and asked(rules, replace(turn.state, alone=anew), turn.now) is not None
    ):
        turn.set(alone=anew)
        turn.report("clustering_begun_anew", clustering=alone.clusterings + 1, reason=_WITHOUT)
        ask(turn)
        return
    waiting = replace(alone, asking=replace(alone.asking, silent=frozenset()))
    turn.report(
        "sum_abandoned",
        round=turn.state.round + 1,
        cluster=None,
        code="TooFewDevices",
        reason=_TOO_FEW
        if rules.noise is not None
        else f"{_WITHOUT}. Let devices of the last sum come back, or {rules.smallest} new ones join.",
        devices=present(turn.state, turn.now),
        needed=enough_to_begin(rules, turn.state),
    )
    turn.set(phase="gathering", alone=waiting, resting=turn.now + rules.grace)


_TOO_FEW = (
    "too few devices are there to ask the next question: their answers would drown in its noise. Let more devices "
    "come; those that have spent their budget answer no more."
)
_WITHOUT = "too few devices of the clustering's last sum are there to ask the next question without showing single ones"
