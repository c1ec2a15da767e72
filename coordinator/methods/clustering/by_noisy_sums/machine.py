"""The coordinator's half of a clustering by sums with noise: (state, sum) -> next question, or the groups.

    mean -> spread -> places (twelve cells) -> places (the groups) -> groups

Codes lie far from the public mean, and near to each other. So their own mean is asked for first; about it, they can be
cut to 3/8 of the length, and the noise with them. Of the spread the three directions are taken in which codes differ
most. Twelve cells divide the space by directions from the mean in these three: a device is in one of them, so that more
cells would not tell more. Groups of cells are groups of devices. One step of k-means follows: each device is counted at
its nearest group, whose mean is the centroid.

What follows from a sum with noise tells no more than that sum. Nothing changes with an error, and the question stands.
No I/O, no clock.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec
import numpy as np

from coordinator.methods.clustering.by_noisy_sums.cells import cells
from coordinator.methods.clustering.by_noisy_sums.grouping import filled, grouped, shifted
from coordinator.methods.clustering.by_noisy_sums.totals import Places, Sum, places, spread
from coordinator.methods.clustering.evidence import Matrix
from edge_sdk.errors import ConfigurationError
from edge_sdk.privacy import DIMENSIONS, FARTHEST, Integers, Kind, Question, length, places_of

FEWEST, MOST = 2, 6
"""Groups that three directions tell apart."""
AXES = 3
_MEAN, _CELLS = 1, 3  # numbers of questions
_NONE = np.zeros((0, DIMENSIONS), np.int64)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one clustering.

    Attributes:
        epoch: the coordinator's start in which it is begun.
        clustering: its number.
        clusters: number of groups.
    """

    epoch: int
    clustering: int
    clusters: int


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a clustering.

    Attributes:
        plan: its settings.
        question: the question whose sum is waited for.
        axes: (AXES DIMENSIONS,) the directions in which codes differ most, one after the other; empty before they are
            known.
    """

    plan: Plan
    question: Question
    axes: tuple[float, ...] = ()


class Groups(msgspec.Struct, frozen=True, kw_only=True):
    """Groups, the largest first.

    Attributes:
        centroids: (groups, DIMENSIONS) coordinates in sixteenths of a step, from which devices choose.
        counts: number of devices that chose each, with noise.
        questions: number of questions that were asked.
    """

    centroids: tuple[tuple[int, ...], ...]
    counts: tuple[int, ...]
    questions: int


Outcome: TypeAlias = State | Groups


def begin(plan: Plan) -> State:
    """Return the state in which the mean is asked for.

    Raises:
        ConfigurationError: the number of groups is out of range.
    """
    if not FEWEST <= plan.clusters <= MOST:
        raise ConfigurationError(
            f"clusters = {plan.clusters} of a clustering by sums with noise: choose {FEWEST} to {MOST}."
        )
    return State(plan=plan, question=_question(plan, 1, "places", np.zeros((1, DIMENSIONS), np.int64)))


def step(state: State, found: Sum) -> Outcome:
    """Return what follows from the sum of the answers to the question.

    Raises:
        MasksLeft: it is no sum of so many answers.
        ConfigurationError: there are more devices than a sum can hold.
    """
    question = state.question
    if question.number == _MEAN:
        (total,) = places(question, found).totals
        return _asked(state, "spread", around=_whole(total / found.devices))
    if question.kind == "spread":
        axes = _axes(spread(question, found))
        state = msgspec.structs.replace(state, axes=tuple(axes.ravel().tolist()))
        return _asked(state, "places", _whole(cells(_centre(question), axes)))
    told, axes = places(question, found), np.array(state.axes).reshape(AXES, DIMENSIONS)
    if question.number == _CELLS:
        told = grouped(told, axes, state.plan.clusters)
    centroids = _whole(_centroids(question, told, axes))
    if question.number == _CELLS:
        return _asked(state, "places", centroids)
    counts = [max(0, round(float(count))) for count in told.counts]
    ordered = sorted(zip(counts, centroids.tolist(), strict=True), key=lambda pair: (-pair[0], pair[1]))
    return Groups(
        centroids=tuple(tuple(place) for _, place in ordered),
        counts=tuple(count for count, _ in ordered),
        questions=question.number,
    )


def _axes(covariance: Matrix) -> Matrix:
    """Return the directions (AXES, DIMENSIONS) in which codes differ most; equal sums give the same signs."""
    values, vectors = np.linalg.eigh(covariance)
    axes = vectors[:, np.argsort(values)[::-1][:AXES]].T
    signed: Matrix = axes * np.sign(axes[np.arange(AXES), np.abs(axes).argmax(axis=1)])[:, None]
    return signed


def _centroids(question: Question, told: Places, axes: Matrix) -> Matrix:
    """Return the centroid (groups, DIMENSIONS) of each group, in public radii.

    Noise lies in all directions, and what tells groups apart in three of them. What noise is left there is known, and
    taken from distances. A group that noise hides stays where it was.
    """
    there = filled(told)
    cells_asked = question.number == _CELLS
    before = _centre(question) if cells_asked else places_of(question.centroids) / FARTHEST
    counts, whole = np.where(there, told.counts, 1.0), length(question)
    away = whole * (told.totals @ axes.T) @ axes / counts[:, None]
    energies = told.deviation**2 * (AXES * whole**2 + 4 * (away**2).sum(axis=1)) / counts**2
    found = shifted(_centre(question) + away, np.where(there, energies, 0.0))
    return np.where(there[:, None], found, before)


def _centre(question: Question) -> Matrix:
    centre: Matrix = places_of(question.around)[0] / FARTHEST
    return centre


def _whole(places: Matrix) -> Integers:
    """Return places in sixteenths of a step, inside the public radius."""
    return np.clip(np.rint(places * FARTHEST), -FARTHEST, FARTHEST).astype(np.int64)


def _asked(state: State, kind: Kind, centroids: Integers | None = None, around: Integers | None = None) -> State:
    known = state.question
    centre = known.around if around is None else around.astype("<i2").tobytes()
    question = _question(state.plan, known.number + 1, kind, _NONE if centroids is None else centroids, centre)
    return msgspec.structs.replace(state, question=question)


def _question(plan: Plan, number: int, kind: Kind, centroids: Integers, around: bytes = b"") -> Question:
    return Question(
        epoch=plan.epoch,
        clustering=plan.clustering,
        number=number,
        kind=kind,
        sizes=(len(centroids),) if len(centroids) else (),
        centroids=centroids.astype("<i2").tobytes(),
        slots=bytes(range(len(centroids))),
        around=around,
    )
