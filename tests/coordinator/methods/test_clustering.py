"""Clustering: similarities, number of clusters, identities."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from coordinator.methods.clustering import (
    CLUSTERERS,
    Dense,
    Evidence,
    groups,
    match_identities,
    partition,
    place,
    similarity,
)
from coordinator.methods.clustering.blends.fused import prompt_weight
from coordinator.methods.clustering.dense import basis_similarities, centred_cosines
from coordinator.methods.clustering.plane import plane
from edge_sdk.adapter import basis_similarity, left_basis
from tests.coordinator.adapters import random_adapter, rotated


def codes_of_groups(sizes: list[int], seed: int = 0, noise: float = 0.1, common: float = 5.0) -> np.ndarray:
    """Codes that share a large mean, as raw mean embeddings do: their plain cosines are all near 1."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(len(sizes), 32)) / np.sqrt(32)
    mean = common * rng.normal(size=32) / np.sqrt(32)
    rows = [mean + centres[g] + noise * rng.normal(size=32) for g, size in enumerate(sizes) for _ in range(size)]
    return np.array(rows)


def truth_of(sizes: list[int]) -> list[int]:
    return [group for group, size in enumerate(sizes) for _ in range(size)]


def matrix(method: str, evidence: Evidence) -> np.ndarray:
    return similarity(evidence, CLUSTERERS[method]()(evidence))


@pytest.mark.parametrize("method", [name for name in CLUSTERERS.built_in if name not in ("single", "sums")])
@pytest.mark.parametrize("sizes", [[2, 2, 2, 2], [3, 3], [5, 2, 4]])
def test_groups_are_found_from_prompt_codes(method: str, sizes: list[int]) -> None:
    codes = codes_of_groups(sizes)
    likeness = matrix(method, Evidence(codes, [None] * len(codes), 0))
    np.testing.assert_allclose(likeness, likeness.T)
    np.testing.assert_allclose(np.diag(likeness), 1.0)
    assert adjusted_rand_score(truth_of(sizes), partition(Dense(likeness))) == 1.0


def test_codes_are_centred() -> None:
    codes = codes_of_groups([4, 4])
    unit = codes / np.linalg.norm(codes, axis=1, keepdims=True)
    assert (unit @ unit.T).min() > 0.9  # what raw cosines see
    likeness = matrix("prompt", Evidence(codes, [None] * 8, 0))
    assert likeness[:4, 4:].max() < -0.5


def test_devices_that_draw_alike_but_learn_differently_part_as_adapters_arrive() -> None:
    """Prompts say [A A A A B B B B], adapters say [0 1 0 1 0 1 0 1]: the fused similarity sees both."""
    styles = [random_adapter(100 + i % 2, 2) for i in range(8)]
    bases = [left_basis(rotated(style, seed)) for seed, style in enumerate(styles)]
    codes = codes_of_groups([4, 4], noise=0.02)
    at_first = matrix("fused", Evidence(codes, [None] * 8, 0))
    later = matrix("fused", Evidence(codes, bases, 2))
    assert at_first[0, 1] > 0.9
    assert later[0, 2] > later[0, 1] + 0.5
    assert later[0, 2] > later[0, 6]  # same style and same prompts beat same style alone


def test_all_pairs_of_bases_at_once_are_the_pairs_one_by_one() -> None:
    """Of mixed ranks, with layers that are zero or not there, and more devices than are compared at once."""
    bases = [left_basis(random_adapter(seed, 1 + seed % 4)) for seed in range(300)]
    names = sorted(bases[0])
    del bases[1][names[0]]
    bases[2][names[1]] = bases[2][names[1]][:, :0]
    bases[3] = {}
    found = basis_similarities(bases)
    some = [0, 1, 2, 3, 4, 150, 299]
    for i in some:
        for j in some:
            assert found[i, j] == pytest.approx(1.0 if i == j else basis_similarity(bases[i], bases[j]))


def test_many_devices_are_cut_from_one_tree() -> None:
    """600 devices in 12 groups; one clustering per number of groups would take minutes."""
    sizes = [50] * 12
    likeness = matrix("prompt", Evidence(codes_of_groups(sizes), [None] * 600, 0))
    assert adjusted_rand_score(truth_of(sizes), partition(Dense(likeness))) == 1.0


def test_prompts_weigh_less_with_every_round() -> None:
    weights = [prompt_weight(rounds) for rounds in range(6)]
    assert weights[0] == 1.0
    assert weights == sorted(weights, reverse=True)
    assert weights[-1] > 0


def test_a_device_without_an_adapter_is_clustered_by_its_prompts() -> None:
    codes = codes_of_groups([4, 4])
    bases = [left_basis(rotated(random_adapter(i // 4, 2), i)) for i in range(7)]
    likeness = matrix("fused", Evidence(codes, [*bases, None], 2))
    assert partition(Dense(likeness)).tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_identical_devices_are_one_cluster() -> None:
    codes = np.tile(np.arange(1.0, 5.0), (6, 1))
    assert set(partition(Dense(matrix("prompt", Evidence(codes, [None] * 6, 0))))) == {0}


def test_devices_without_structure_are_one_cluster() -> None:
    codes = np.random.default_rng(1).normal(size=(12, 64))
    assert set(partition(Dense(matrix("prompt", Evidence(codes, [None] * 12, 0))))) == {0}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_devices_are_no_problem(count: int) -> None:
    codes = np.random.default_rng(0).normal(size=(count, 8))
    labels = partition(Dense(matrix("fused", Evidence(codes, [None] * count, 0))))
    assert labels.tolist() == [0] * count


class TestGroupsThatAreMoreThanChance:
    def crowd(self, sizes: list[int], noise: float, seed: int) -> Dense:
        """Codes of 192 dimensions, each group's centre of length 1."""
        rng = np.random.default_rng(seed)
        centres = rng.normal(size=(len(sizes), 192)) / np.sqrt(192)
        codes = centres[truth_of(sizes)] + noise * rng.normal(size=(sum(sizes), 192)) / np.sqrt(192)
        return Dense(matrix("prompt", Evidence(codes, [None] * len(codes), 0)))

    @pytest.mark.parametrize("seed", range(5))
    def test_where_there_are_none_none_are_invented(self, seed: int) -> None:
        crowds = [self.crowd([16], 1.0, seed), self.crowd([8], 1.0, seed)]
        assert max(max(partition(crowd, choose="eigengap")) for crowd in crowds) > 0
        for crowd in crowds:
            assert set(partition(crowd, choose="significant")) == {0}

    @pytest.mark.parametrize("seed", range(3))
    def test_faint_ones_are_found(self, seed: int) -> None:
        sizes = [8, 8, 8, 8]
        crowd = self.crowd(sizes, 1.7, seed)
        assert set(partition(crowd, choose="silhouette")) == {0}
        assert adjusted_rand_score(truth_of(sizes), partition(crowd, choose="significant")) > 0.9

    def test_clear_ones_among_few_are_found(self) -> None:
        sizes = [2, 2, 2, 2]
        found = partition(self.crowd(sizes, 0.3, 0), choose="significant")
        assert adjusted_rand_score(truth_of(sizes), found) == 1.0


def test_number_and_smallest_size_are_kept() -> None:
    codes = codes_of_groups([4, 4, 1], noise=0.02)
    likeness = matrix("prompt", Evidence(codes, [None] * 9, 0))
    assert len(set(partition(Dense(likeness), clusters=3, smallest=1))) == 3
    labels = partition(Dense(likeness), clusters=3, smallest=2)
    assert np.unique(labels, return_counts=True)[1].min() >= 2
    assert labels[:8].tolist() == [0] * 4 + [1] * 4


def test_a_device_apart_does_not_take_the_place_of_a_group() -> None:
    """It would be split off first, and then be absorbed."""
    features = np.concatenate([codes_of_groups([6, 6], noise=0.02), 40 * np.eye(1, 32, 15)])
    likeness = -np.linalg.norm(features[:, None] - features[None, :], axis=2)
    labels = partition(Dense(likeness), clusters=2, smallest=2)
    assert labels[:12].tolist() == [0] * 6 + [1] * 6


def test_centred_cosines_equal_those_of_centred_features() -> None:
    features = np.random.default_rng(0).normal(size=(6, 5)) + 10
    centred = features - features.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    np.testing.assert_allclose(centred_cosines(features @ features.T), centred @ centred.T, atol=1e-9)


class TestIdentities:
    def test_survive_a_new_numbering(self) -> None:
        before = {"a": 4, "b": 4, "c": 9, "d": 9}
        assignment, parents = match_identities([{"c", "d"}, {"a", "b"}], before, 10)
        assert assignment == before
        assert parents == {}

    def test_a_device_moves(self) -> None:
        before = {"a": 0, "b": 0, "c": 0, "d": 1, "e": 1}
        assignment, _ = match_identities([{"a", "b"}, {"c", "d", "e"}], before, 2)
        assert assignment == {"a": 0, "b": 0, "c": 1, "d": 1, "e": 1}

    def test_a_split_gets_a_new_identity_and_remembers_its_origin(self) -> None:
        before = dict.fromkeys("abcde", 3)
        assignment, parents = match_identities([{"a", "b", "c"}, {"d", "e"}], before, 5)
        assert assignment == {"a": 3, "b": 3, "c": 3, "d": 5, "e": 5}
        assert parents == {5: 3}

    def test_identities_are_never_used_again(self) -> None:
        assignment, parents = match_identities([{"x"}, {"y"}], {"a": 0}, 7)
        assert set(assignment.values()) == {7, 8}
        assert parents == {}

    def test_overlap_is_maximal(self) -> None:
        rng = np.random.default_rng(0)
        devices = [f"d{i}" for i in range(30)]
        before = {device: int(rng.integers(4)) for device in devices}
        shuffled = rng.permutation(4)
        new = [{d for d in devices if before[d] == c} for c in shuffled]
        assert match_identities(new, before, 4)[0] == before


def test_the_plane_keeps_distances_between_groups() -> None:
    codes = codes_of_groups([3, 3, 3], noise=0.02)
    points = plane(matrix("prompt", Evidence(codes, [None] * 9, 0)))
    assert points.shape == (9, 2)
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    same = np.equal.outer(truth_of([3, 3, 3]), truth_of([3, 3, 3]))
    assert apart[same].max() < 0.3 * apart[~same].min()
    assert plane(np.ones((1, 1))).tolist() == [[0.0, 0.0]]
    assert plane(np.eye(2)).shape == (2, 2)


def test_groups_lists_the_devices_of_each_label() -> None:
    assert groups(np.array([0, 1, 0]), ["a", "b", "c"]) == [{"a", "c"}, {"b"}]


def test_a_newcomer_is_placed_with_its_like() -> None:
    codes = codes_of_groups([4, 4, 1])
    assert place(codes_of_groups([4, 4, 1], seed=0, noise=0.0)[5], codes[:8], [2] * 4 + [6] * 4) == 6
    assert place(codes[0], np.zeros((0, 32)), []) == 0
