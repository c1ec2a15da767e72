"""k-means into micro-clusters, held against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from coordinator.methods.clustering.micro_clusters.gram import Vectors
from coordinator.methods.clustering.micro_clusters.kmeans import k_means


def _points(seed: int, count: int, groups: int, noise: float) -> tuple[Vectors, np.ndarray]:
    random = np.random.default_rng(seed)
    group = random.integers(groups, size=count)
    centres = random.normal(size=(groups, 16))
    return (centres[group] + noise * random.normal(size=(count, 16))).astype(np.float32), group


def _inertia(points: Vectors, labels: np.ndarray) -> float:
    return sum(float(((points[labels == k] - points[labels == k].mean(axis=0)) ** 2).sum()) for k in np.unique(labels))


def test_groups_that_lie_apart_are_found() -> None:
    points, group = _points(0, 400, 12, 0.01)
    labels = k_means(points, 12)
    pairs = {(int(a), int(b)) for a, b in zip(labels, group, strict=True)}
    assert len(pairs) == len(set(group.tolist()))


@pytest.mark.parametrize("seed", range(5))
def test_clusters_are_as_narrow_as_another_implementations(seed: int) -> None:
    points, _ = _points(seed, 600, 30, 0.5)
    other = KMeans(60, n_init=1, max_iter=15, random_state=seed).fit(points)
    assert _inertia(points, k_means(points, 60)) < 1.05 * other.inertia_


@given(st.integers(0, 50), st.integers(1, 40), st.integers(1, 60), st.integers(1, 6))
def test_any_number_of_points_and_clusters(seed: int, count: int, wanted: int, distinct: int) -> None:
    """Points at few places: there are at most as many clusters as places, and equal points stay together."""
    random = np.random.default_rng(seed)
    places = random.normal(size=(distinct, 8)).astype(np.float32)
    place = random.integers(distinct, size=count)
    labels = k_means(places[place], wanted)
    assert labels.shape == (count,)
    assert list(dict.fromkeys(labels.tolist())) == list(range(len(set(labels.tolist()))))  # by first appearance
    assert len(set(labels.tolist())) == min(wanted, len(set(place.tolist())))
    for one in set(place.tolist()):
        assert len(set(labels[place == one].tolist())) == 1


def test_the_same_points_give_the_same_clusters() -> None:
    points, _ = _points(3, 300, 10, 1.0)
    np.testing.assert_array_equal(k_means(points, 40), k_means(points.copy(), 40))
