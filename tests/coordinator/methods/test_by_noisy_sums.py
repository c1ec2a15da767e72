"""Clusters found by sums with noise, as a pure function of codes: the groups that are left, and what sums cannot be."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from msgspec.structs import replace
from sklearn.metrics import adjusted_rand_score

from coordinator.methods.clustering.by_noisy_sums import (
    Groups,
    Plan,
    State,
    Sum,
    begin,
    fewest_devices,
    step,
    summed_with_noise,
)
from coordinator.methods.clustering.by_noisy_sums.cells import CORNERS
from coordinator.methods.clustering.by_noisy_sums.grouping import grouped, shifted
from coordinator.methods.clustering.by_noisy_sums.totals import Places
from edge_sdk.errors import ConfigurationError, MasksLeft
from edge_sdk.privacy import DIMENSIONS, FARTHEST, Guarantee, check_question, cost, nearest_centroid

PLAN = Plan(epoch=1, clustering=1, clusters=4)


def crowd(devices: int, groups: int, seed: int) -> tuple[list[bytes], list[int]]:
    """Codes of groups about a common centre, as the stickers model's are, and the group of each."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=DIMENSIONS)
    centre *= 4.0 / np.linalg.norm(centre)
    turn = np.linalg.qr(rng.normal(size=(DIMENSIONS, groups)))[0].T
    truth = [number % groups for number in range(devices)]
    places = centre + 4.5 * turn[truth] + 0.8 * rng.normal(size=(devices, DIMENSIONS))
    return [np.clip(np.rint(place), -8, 8).astype(np.int8).tobytes() for place in places], truth


def found(codes: Sequence[bytes], plan: Plan, epsilon: float, seed: int) -> tuple[Groups, npt.NDArray[np.int64]]:
    guarantee, below, spent = Guarantee(epsilon=epsilon, delta=1e-5), random.Random(seed).randrange, 0.0
    state: State | Groups = begin(plan)
    while isinstance(state, State):
        check_question(state.question)
        spent += cost(state.question, guarantee)
        state = step(state, summed_with_noise(state.question, codes, guarantee, int(0.6 * len(codes)), below))
    assert spent == pytest.approx(guarantee.mu**2), "the whole budget, and no more"
    centroids = np.array(state.centroids)
    assert np.abs(centroids).max() <= FARTHEST
    return state, np.array([nearest_centroid(code, centroids) for code in codes])


@pytest.mark.parametrize(
    ("devices", "epsilon", "groups"), [(48, 8.0, 2), (100, 8.0, 4), (200, 4.0, 4), (400, 1.0, 3), (400, 8.0, 6)]
)
def test_groups_are_found_under_noise(devices: int, epsilon: float, groups: int) -> None:
    scores = []
    for seed in range(5):
        codes, truth = crowd(devices, groups, seed)
        made, labels = found(codes, replace(PLAN, clusters=groups), epsilon, seed)
        assert (len(made.centroids), made.questions) == (groups, 4)
        assert list(made.counts) == sorted(made.counts, reverse=True)
        scores.append(adjusted_rand_score(truth, labels))
    assert np.median(scores) > (0.95 if groups <= 4 else 0.6)


def test_too_much_noise_leaves_no_groups_and_breaks_nothing() -> None:
    for seed in range(10):
        codes, _ = crowd(6, 2, seed)
        made, labels = found(codes, PLAN, 1.0, seed)
        assert len(made.centroids) == 4
        assert set(labels.tolist()) <= {0, 1, 2, 3}


def test_a_fixed_epsilon_takes_so_many_devices() -> None:
    assert [fewest_devices(epsilon) for epsilon in (1.0, 2.0, 4.0, 7.9, 8.0)] == [500, 500, 100, 100, 48]


@pytest.mark.parametrize("clusters", [0, 1, 7])
def test_a_number_of_groups_out_of_range_is_refused(clusters: int) -> None:
    with pytest.raises(ConfigurationError, match="choose 2 to 6"):
        begin(replace(PLAN, clusters=clusters))


def test_a_sum_in_which_masks_are_left_is_refused_and_the_question_stands() -> None:
    """So is one of other lengths, or of another number of devices."""
    guarantee = Guarantee(epsilon=4.0, delta=1e-5)
    codes, _ = crowd(100, 4, 0)
    state: State | Groups = begin(PLAN)
    rng = np.random.default_rng(0)
    while isinstance(state, State):
        good = summed_with_noise(state.question, codes, guarantee, 60, random.Random(1).randrange)
        words = state.question.words
        for bad in (
            Sum(100, rng.integers(0, 2**32, words, np.uint32), good.variance),
            Sum(100, good.total[:-1], good.variance),
            Sum(100, good.total.astype(np.int64), good.variance),
            Sum(1000, good.total, good.variance),
        ):
            with pytest.raises(MasksLeft, match="asked again"):
                step(state, bad)  # type: ignore[arg-type]
        state = step(state, good)


def test_cells_are_an_icosahedrons_corners() -> None:
    assert CORNERS.shape == (12, 3)
    assert np.linalg.norm(CORNERS, axis=1) == pytest.approx(1.0)
    cosines = np.sort(CORNERS @ CORNERS.T, axis=1)[:, ::-1]
    assert cosines[:, 1:6] == pytest.approx(1 / 5**0.5)
    assert cosines[:, 11] == pytest.approx(-1.0)


def test_cells_of_two_groups_are_told_apart() -> None:
    counts = np.array([10.0, 12, 9, 11, 0.2, -0.3])
    places = np.array([[1.0, 0], [0.9, 0.1], [-1, 0], [-0.9, 0], [5, 5], [0, 0]])
    totals = np.zeros((6, DIMENSIONS))
    totals[:, :2] = counts[:, None] * places
    told = grouped(Places(counts, totals, np.full(6, 0.1)), np.eye(DIMENSIONS)[:3], 2)
    assert sorted(told.counts.tolist()) == [20.0, 22.0]
    assert told.deviation == pytest.approx(0.1 * 2**0.5)


def test_centroids_are_moved_so_that_distances_lose_the_energy_of_noise() -> None:
    rng = np.random.default_rng(0)
    centroids, energies = rng.normal(size=(5, DIMENSIONS)), rng.uniform(0, 0.5, 5)
    moved = shifted(centroids, energies)
    for code in rng.normal(size=(20, DIMENSIONS)):
        wanted = ((code - centroids) ** 2).sum(axis=1) - energies
        own = ((code - moved) ** 2).sum(axis=1)
        assert own - own[0] == pytest.approx(wanted - wanted[0])
