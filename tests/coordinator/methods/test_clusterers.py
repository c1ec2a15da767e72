"""One matrix of tests over every clusterer, every rule for the number of clusters, and both methods of comparing."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, silhouette_score

from coordinator.methods.clustering import CLUSTERERS, RULES, Blend, Crowd, Dense, Evidence, partition, similarity
from coordinator.methods.clustering.micro_clusters import coarse
from coordinator.methods.clustering.rules.silhouette import mean_silhouette
from edge_sdk.adapter import Shape, concatenate, left_basis
from edge_sdk.adapter.algebra import Bases
from tests.coordinator.adapters import random_adapter, rotated

# Sketches are made for real adapters; of few or narrow layers they are less exact.
WIDE = {f"unet.mid.attn{number}.to_q": Shape(24, 160) for number in range(8)}
GROUPS, EACH = 3, 12
TRUTH = [device % GROUPS for device in range(GROUPS * EACH)]
COMPARE: dict[str, Callable[[Evidence, Blend], Crowd]] = {
    "dense": lambda evidence, blend: Dense(similarity(evidence, blend)),
    "coarse": coarse,
}
# "sums" compares no evidence: test_by_sums has its groups.
METHODS = [method for method in CLUSTERERS.built_in if method != "sums"]
EVERY = [(method, rule, how) for method in METHODS for rule in RULES.built_in for how in COMPARE]
pytestmark = pytest.mark.parametrize(("method", "rule", "how"), EVERY, ids=["-".join(case) for case in EVERY])


@functools.cache
def basis_of(device: int, gauge: int = 0) -> Bases:
    """A device writes into its group's directions and a few weak ones of its own; `gauge` only turns its factors."""
    own = random_adapter(100 + device, 1, slots=WIDE)
    learnt = concatenate([(random_adapter(device % GROUPS, 3, slots=WIDE), 1.0), (own, 0.2)])
    return left_basis(rotated(learnt, gauge) if gauge else learnt)


def evidence_of(truth: list[int], *, gauge: int = 0, without: frozenset[int] = frozenset()) -> Evidence:
    """Codes as raw embeddings are, with a large common mean."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(GROUPS, 32))
    codes = 5.0 + centres[truth] + 0.2 * rng.normal(size=(len(truth), 32))
    bases = [None if i in without else basis_of(i, gauge and gauge + i) for i in range(len(truth))]
    return Evidence(codes, bases, 2)


def labels_of(method: str, rule: str, how: str, evidence: Evidence) -> list[int]:
    found = partition(COMPARE[how](evidence, CLUSTERERS[method]()(evidence)), choose=rule)
    return [int(label) for label in found]


def expected(method: str, truth: list[int]) -> list[int]:
    return [0] * len(truth) if method == "single" else truth


def taken(evidence: Evidence, order: np.ndarray) -> Evidence:
    return Evidence(evidence.codes[order], [evidence.bases[i] for i in order], evidence.rounds)


def test_groups_are_found(method: str, rule: str, how: str) -> None:
    assert labels_of(method, rule, how, evidence_of(TRUTH)) == expected(method, TRUTH)


def test_the_order_of_devices_does_not_matter(method: str, rule: str, how: str) -> None:
    order = np.random.default_rng(1).permutation(len(TRUTH))
    found = labels_of(method, rule, how, taken(evidence_of(TRUTH), order))
    assert adjusted_rand_score(expected(method, [TRUTH[i] for i in order]), found) == 1.0


def test_rotated_factors_change_nothing(method: str, rule: str, how: str) -> None:
    plain = labels_of(method, rule, how, evidence_of(TRUTH))
    assert labels_of(method, rule, how, evidence_of(TRUTH, gauge=500)) == plain


def test_the_same_evidence_gives_the_same_groups(method: str, rule: str, how: str) -> None:
    rng = np.random.default_rng(3)
    noise = Evidence(rng.normal(size=(40, 32)), [left_basis(random_adapter(i, 3)) for i in range(40)], 2)
    assert labels_of(method, rule, how, noise) == labels_of(method, rule, how, noise)


def test_duplicates_stay_together(method: str, rule: str, how: str) -> None:
    twice = np.concatenate([np.arange(len(TRUTH)), np.arange(len(TRUTH))])
    found = labels_of(method, rule, how, taken(evidence_of(TRUTH), twice))
    assert found == expected(method, TRUTH) * 2


def test_devices_without_adapters_go_by_their_codes(method: str, rule: str, how: str) -> None:
    some = evidence_of(TRUTH, without=frozenset({0, 4, 8, 20, 31}))
    assert labels_of(method, rule, how, some) == expected(method, TRUTH)
    nobody = evidence_of(TRUTH, without=frozenset(range(len(TRUTH))))
    assert labels_of(method, rule, how, nobody) == expected(method, TRUTH)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_devices_are_one_group(method: str, rule: str, how: str, count: int) -> None:
    assert labels_of(method, rule, how, evidence_of(TRUTH[:count])) == [0] * count


def test_equal_devices_are_one_group(method: str, rule: str, how: str) -> None:
    equal = Evidence(np.tile(np.arange(1.0, 9.0), (20, 1)), [basis_of(0)] * 20, 2)
    assert labels_of(method, rule, how, equal) == [0] * 20


def test_no_group_is_smaller_than_allowed(method: str, rule: str, how: str) -> None:
    truth = [*TRUTH, 0, 1, 2, 0, 1]
    evidence = evidence_of(truth)
    outliers = Evidence(evidence.codes.copy(), list(evidence.bases), 2)
    outliers.codes[-3:] += 20 * np.random.default_rng(9).normal(size=(3, 32))
    crowd = COMPARE[how](outliers, CLUSTERERS[method]()(outliers))
    for clusters in (0, 3, 6):
        found = partition(crowd, clusters=clusters, choose=rule, smallest=4)
        assert np.bincount(found).min() >= 4


def test_a_given_number_is_kept(method: str, rule: str, how: str) -> None:
    evidence = evidence_of(TRUTH)
    crowd = COMPARE[how](evidence, CLUSTERERS[method]()(evidence))
    assert set(partition(crowd, clusters=1, choose=rule)) == {0}
    assert len(set(partition(crowd, clusters=2, choose=rule))) == (1 if method == "single" else 2)


def test_crowds_add_up(method: str, rule: str, how: str) -> None:
    """Totals to groups are sums of the similarities; of the coarse method up to an error of 0.05 a device."""
    evidence = evidence_of(TRUTH, without=frozenset({1, 5}))
    blend = CLUSTERERS[method]()(evidence)
    crowd, exact = COMPARE[how](evidence, blend), similarity(evidence, blend)
    labels = np.array(TRUTH)
    np.testing.assert_allclose(crowd.totals(labels), exact @ np.eye(GROUPS)[labels], atol=0.05 * EACH)
    np.testing.assert_allclose(crowd.totals_of_items(np.zeros_like(crowd.sizes)).sum(), exact.sum(), atol=2.0)
    if method != "single":
        distance = 1.0 - exact
        wanted = silhouette_score(distance, labels, metric="precomputed")
        assert mean_silhouette(crowd.totals(labels), labels) == pytest.approx(
            wanted, abs=1e-9 if how == "dense" else 0.02
        )
