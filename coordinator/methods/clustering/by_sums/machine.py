"""The coordinator's half of a clustering by sums: (state, sum) -> next question, or the groups.

    spread -> counts -> places -> counts -> places -> ... -> counts (the last) -> groups

After the spread, trials start from random centroids: as many for each number of groups as a question holds. A turn is
two questions: counts say which centroids share a slot because too few devices chose them, then the sums of codes give
each slot's mean, rounded. After the last turn the best trial of each number of groups is counted once more, and judged
by its silhouette. If all of them have groups that are too small then, these are merged, and counted again.

A sum may be of fewer devices than the one before: everything that is compared is of one sum. Nothing changes with an
error, and the question stands. No I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Annotated, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from coordinator.methods.clustering.by_sums.choice import between, clearest
from coordinator.methods.clustering.by_sums.merging import merged
from coordinator.methods.clustering.by_sums.starts import drawn
from coordinator.methods.clustering.by_sums.totals import Counts, Places, Spread, counts, places, spread
from edge_sdk.errors import ConfigurationError, TooFewDevices
from edge_sdk.privacy import (
    MOST_CENTROIDS,
    MOST_IN_TRIAL,
    MOST_QUESTIONS,
    SILHOUETTE,
    SUBSTEPS,
    Integers,
    Kind,
    Question,
)

FEWEST = 2
"""Devices of the smallest group, at least: the sum of one is its code."""
_TURNS = 3  # docs/benchmarks/privacy.md: more do not find better groups
CENTROIDS = 1120  # in one question, at most


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one clustering.

    Attributes:
        epoch: the coordinator's start in which it is begun.
        clustering: its number.
        seed: source of the random starts.
        clusters: number of groups, fewer if they would be too small; 0: found by the silhouette.
        most: largest number of groups that is tried.
        smallest: least number of devices in a group.
        turns: turns of k-means.
        centroids: centroids in one question, at most; trials of a number of groups are as many as fit.
    """

    epoch: int
    clustering: int
    seed: bytes
    clusters: int = 0
    most: int = 8
    smallest: int = 3
    turns: Annotated[int, Meta(ge=1)] = _TURNS
    centroids: int = CENTROIDS


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a clustering.

    Attributes:
        plan: its settings.
        question: the question whose sum is waited for.
        mean: (DIMENSIONS,) mean of all devices' codes, in sixteenths of a step; empty before it is known.
        wanted: number of groups with which each trial began.
        turn: turns that are over.
        judging: true if the last question is out, about the best trials.
    """

    plan: Plan
    question: Question
    mean: tuple[int, ...] = ()
    wanted: tuple[int, ...] = ()
    turn: int = 0
    judging: bool = False


class Groups(msgspec.Struct, frozen=True, kw_only=True):
    """Groups, the largest first.

    Attributes:
        centroids: (groups, DIMENSIONS) coordinates in sixteenths of a step, from which devices choose.
        counts: number of devices that chose each, when they were last counted.
        silhouette: their mean silhouette; 0 of one group.
        questions: number of questions that were asked.
    """

    centroids: tuple[tuple[int, ...], ...]
    counts: tuple[int, ...]
    silhouette: float
    questions: int


Outcome: TypeAlias = State | Groups


class _Trial(NamedTuple):
    """A trial that goes on: the number of groups with which it began, its centroids, and their slots."""

    wanted: int
    centroids: Integers
    slots: Sequence[int]


def begin(plan: Plan) -> State:
    """Return the state in which the spread is asked for.

    Raises:
        ConfigurationError: a setting is out of range.
    """
    for name, value, least, largest in (
        ("clusters", plan.clusters, 0, MOST_IN_TRIAL),
        ("most", plan.most, 1, MOST_IN_TRIAL),
        ("smallest", plan.smallest, FEWEST, 1 << 20),
        # The spread, two questions a turn, the last one, and another one each time that groups are merged.
        ("turns", plan.turns, 1, (MOST_QUESTIONS - 2) // 2),
        ("centroids", plan.centroids, plan.clusters or sum(range(2, plan.most + 1)), MOST_CENTROIDS),
    ):
        if not least <= value <= largest:
            raise ConfigurationError(f"{name} = {value} of a clustering by sums: choose {least} to {largest}.")
    return State(plan=plan, question=_question(plan, 1, "spread", ()))


def step(state: State, devices: int, total: npt.NDArray[np.uint32]) -> Outcome:
    """Return what follows from the sum of the answers to the question.

    Args:
        state: the present state.
        devices: number of devices in the sum.
        total: (state.question.words,) the unmasked sum, modulo 2^32.

    Raises:
        TooFewDevices: they do not make a group of the smallest size.
        MasksLeft: it is no sum of so many answers.
        ConfigurationError: there are more devices than a sum can hold.
    """
    if devices < state.plan.smallest:
        raise TooFewDevices(
            f"{devices} devices have answered a question of the clustering, and a group has at least "
            f"{state.plan.smallest}: ask again when more are there."
        )
    if state.question.kind == "spread":
        return _started(state, spread(state.question, devices, total))
    if state.question.kind == "places":
        return _moved(state, devices, total)
    found = counts(state.question, devices, total)
    return _judged(state, devices, found) if state.judging else _shared(state, found)


def _started(state: State, found: Spread) -> Outcome:
    """The first centroids, or one group if there cannot be more."""
    plan, devices = state.plan, found.devices
    mean = _divided(SUBSTEPS * found.total[None], np.array([devices]))
    state = msgspec.structs.replace(state, mean=tuple(mean[0].tolist()))
    most = min(plan.clusters or plan.most, devices // plan.smallest)
    alike = not (devices * found.products - np.outer(found.total, found.total)).any()
    if most < 2 or alike:
        return _one_group(state, devices)
    numbers = [most] if plan.clusters else list(range(2, most + 1))
    wanted = [number for number in numbers for _ in range(plan.centroids // sum(numbers))]
    starts = np.split(drawn(found, sum(wanted), plan.seed), np.cumsum(wanted)[:-1])
    trials = [_Trial(number, start, range(number)) for number, start in zip(wanted, starts, strict=True)]
    return _asked(state, "counts", trials)


def _shared(state: State, found: Sequence[Counts]) -> State:
    """Centroids that are counted: those that too few devices chose share a slot."""
    trials = [
        _Trial(number, centroids, merged(one.counts, centroids, state.plan.smallest))
        for number, (centroids, _), one in zip(state.wanted, state.question.trials, found, strict=True)
    ]
    return _asked(state, "places", trials)


def _moved(state: State, devices: int, total: npt.NDArray[np.uint32]) -> State:
    """Each slot's centroid is now the mean of its devices; after the last turn, the best trials only."""
    found = places(state.question, devices, total)
    trials, scores, settled = list[_Trial](), list[Fraction](), True
    for number, (before, _), one in zip(state.wanted, state.question.trials, found, strict=True):
        kept = _large_enough(one, state.plan.smallest)
        means = _divided(SUBSTEPS * kept.totals, kept.counts)
        settled &= np.array_equal(means, before)
        trials.append(_Trial(number, means, range(len(means))))
        scores.append(between(kept))
    state = msgspec.structs.replace(state, turn=state.turn + 1)
    if not settled and state.turn < state.plan.turns:
        return _asked(state, "counts", trials)
    best: dict[int, int] = {}
    for place, number in enumerate(state.wanted):
        if number not in best or scores[place] > scores[best[number]]:
            best[number] = place
    return _asked(msgspec.structs.replace(state, judging=True), "counts", [trials[place] for place in best.values()])


def _large_enough(found: Places, smallest: int) -> Places:
    """Return a trial's sums without slots that are too small: devices may have been lost since they were counted."""
    filled = found.counts > 0
    numbers, totals = found.counts[filled], found.totals[filled]
    groups = _members(merged(numbers, _divided(SUBSTEPS * totals, numbers), smallest))
    return Places(groups @ numbers, groups @ totals)


def _judged(state: State, devices: int, found: Sequence[Counts]) -> Outcome:
    """The groups of the best trial that has none too small; if all trials have, they are merged and counted again."""
    plan = state.plan
    centroids = [own for own, _ in state.question.trials]
    sound = [place for place, one in enumerate(found) if one.counts.min() >= plan.smallest]
    if not sound:
        if state.question.number == MOST_QUESTIONS:
            return _one_group(state, devices)
        rows = zip(state.wanted, centroids, found, strict=True)
        return _asked(state, "counts", [_joined(number, own, one.counts, plan.smallest) for number, own, one in rows])
    best = 0 if plan.clusters else clearest([found[place] for place in sound], devices)
    if best is None or len(centroids[sound[best]]) == 1:
        return _one_group(state, devices)
    chosen = sound[best]
    pairs = zip(found[chosen].counts.tolist(), centroids[chosen].tolist(), strict=True)
    ordered = sorted(pairs, key=lambda pair: (-pair[0], pair[1]))
    return Groups(
        centroids=tuple(tuple(place) for _, place in ordered),
        counts=tuple(count for count, _ in ordered),
        silhouette=found[chosen].silhouette / (devices * SILHOUETTE),
        questions=state.question.number,
    )


def _joined(wanted: int, centroids: Integers, numbers: Integers, smallest: int) -> _Trial:
    """Return a trial with a centroid for each slot: the mean of the slot's centroids, weighted by their devices."""
    weights = _members(merged(numbers, centroids, smallest)) * numbers
    means = _divided(weights @ centroids, weights.sum(axis=1))
    return _Trial(wanted, means, range(len(means)))


def _members(slots: Sequence[int]) -> Integers:
    """Return a matrix (slots, groups): 1 if a group is in a slot."""
    found: Integers = (np.arange(max(slots) + 1)[:, None] == np.array(slots)).astype(np.int64)
    return found


def _one_group(state: State, devices: int) -> Groups:
    return Groups(centroids=(state.mean,), counts=(devices,), silhouette=0.0, questions=state.question.number)


def _asked(state: State, kind: Kind, trials: Sequence[_Trial]) -> State:
    question = _question(state.plan, state.question.number + 1, kind, trials)
    return msgspec.structs.replace(state, question=question, wanted=tuple(trial.wanted for trial in trials))


def _question(plan: Plan, number: int, kind: Kind, trials: Sequence[_Trial]) -> Question:
    return Question(
        epoch=plan.epoch,
        clustering=plan.clustering,
        number=number,
        kind=kind,
        sizes=tuple(len(trial.centroids) for trial in trials),
        centroids=b"".join(trial.centroids.astype("<i2").tobytes() for trial in trials),
        slots=b"".join(bytes(trial.slots) for trial in trials),
    )


def _divided(totals: Integers, numbers: Integers) -> Integers:
    """Return quotients, rounded to the nearest integer, halves up."""
    found: Integers = (2 * totals + numbers[:, None]) // (2 * numbers[:, None])
    return found
