"""The clusterer that takes the evidence which training confirms."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.crowd.tastes import NOISES, Federation
from coordinator.methods.clustering import (
    ByPicture,
    ByPrompt,
    Evidence,
    Fused,
    Validated,
)
from coordinator.methods.clustering.sketch import sketches_of
from coordinator.methods.clustering.validation import agreement, score
from tests.coordinator.learning.picture_styles import ari, labels_of


@functools.cache
def federation(named: float, pictures: str, noise: str = "low", devices: int = 32) -> Federation:
    return Federation(devices, 4, NOISES[noise], 1, named=named, pictures=pictures)


class TestValidated:
    """The clusterer that finds out which evidence to trust."""

    @pytest.mark.parametrize(
        ("named", "pictures", "right"),
        [
            (1.0, "informative", {"picture"}),
            (1.0, "useless", {"fused", "prompt"}),
            (1.0, "none", {"fused", "prompt"}),
            (0.0, "informative", {"picture"}),
            (0.0, "useless", {"fused"}),
            (0.5, "informative", {"picture"}),
            (0.5, "useless", {"fused"}),
        ],
    )
    def test_it_finds_out_after_a_round(self, named: float, pictures: str, right: set[str]) -> None:
        world = federation(named, pictures)
        clusterer = Validated()
        before = clusterer.decide(world.evidence(0), [None] * 32)
        assert before.clusterer.method == ("fused" if pictures == "none" else "picture")
        present = labels_of(world.evidence(0), before.clusterer)  # type: ignore[arg-type]
        decision = clusterer.decide(world.evidence(1), present.tolist())
        assert decision.clusterer.method in right, decision.figures
        found = labels_of(world.evidence(1), decision.clusterer)  # type: ignore[arg-type]
        others = [ari(world.truth, labels_of(world.evidence(1), other())) for other in (ByPicture, Fused, ByPrompt)]
        assert ari(world.truth, found) >= max(others) - 0.05
        # It stays with that.
        again = clusterer.decide(world.evidence(2), found.tolist())
        assert again.clusterer.method == decision.clusterer.method
        assert not again.new

    def test_it_stays_with_its_choice_unless_another_is_clearly_better(self) -> None:
        """Captions and pictures tell tastes apart alike, but for one device."""
        world = Federation(32, 4, NOISES["middle"], 3, named=1.0, pictures="informative")
        for first, then in ((ByPicture(), "picture"), (ByPrompt(), "fused")):
            present = labels_of(world.evidence(0), first)
            decision = Validated().decide(world.evidence(1), present.tolist())
            scores = decision.figures["scores"]
            assert isinstance(scores, dict)
            assert max(scores.values()) - min(scores.values()) < 1
            assert decision.clusterer.method == then
            assert not decision.new

    def test_what_it_has_chosen_is_said(self) -> None:
        world = federation(1.0, "useless")
        decision = Validated().decide(world.evidence(1), [0] * 32)
        assert decision.new
        assert decision.figures["evidence"] == decision.clusterer.method
        scores = decision.figures["scores"]
        assert isinstance(scores, dict)
        assert list(scores) == ["picture", "fused", "prompt"]
        assert scores["picture"] < 3 < scores["prompt"]

    def test_its_own_keys_are_those_of_the_chosen(self) -> None:
        world = federation(0.0, "informative")
        clusterer = Validated(clusters=3, min_cluster=4, recluster="drift")
        chosen = clusterer.decide(world.evidence(1), [None] * 32).clusterer
        assert chosen == ByPicture(clusters=3, min_cluster=4, recluster="drift")
        assert chosen.on_drift
        assert clusterer.on_drift

    def test_adapters_are_not_judged_by_themselves(self) -> None:
        """Without groups, groups of the adapters' noise are not confirmed by that same noise."""
        world = Federation(40, 1, NOISES["high"], 3, named=0.0, pictures="useless")
        decision = Validated(clusters=4).decide(world.evidence(2), [None] * 40)
        scores = decision.figures["scores"]
        assert isinstance(scores, dict)
        assert all(abs(value) < 4 for value in scores.values()), scores
        assert decision.clusterer.method == "picture"

    def test_few_adapters_judge_nothing(self) -> None:
        world = federation(1.0, "useless")
        evidence = world.evidence(1)
        few = replace(evidence, bases=[bases if i < 7 else None for i, bases in enumerate(evidence.bases)])
        assert Validated().decide(few, [0] * 32).clusterer.method == "picture"

    def test_many_devices_are_judged_by_some_of_their_sketches(self) -> None:
        world = federation(0.0, "informative", devices=300)
        sketches = sketches_of(list(world))
        evidence = Evidence(world.codes, (), 1, replace(sketches, layers=56), world.pictures)
        assert sketches.layers == 56
        decision = Validated().decide(evidence, [0] * 300)
        assert decision.clusterer.method == "picture"
        assert ari(world.truth, labels_of(evidence, decision.clusterer)) > 0.95  # type: ignore[arg-type]


class TestScores:
    def test_are_standard_normal_by_chance(self) -> None:
        rng = np.random.default_rng(0)
        rows = rng.normal(size=(30, 50))
        similarity = rows @ rows.T
        found = [score(rng.integers(0, 4, 30), similarity) for _ in range(100)]
        assert abs(float(np.mean(found))) < 0.3
        assert 0.7 < float(np.std(found)) < 1.3

    def test_tell_the_right_groups_from_coarser_and_finer_ones(self) -> None:
        truth = np.arange(48) % 4
        rng = np.random.default_rng(1)
        rows = np.eye(4)[truth] + 0.5 * rng.normal(size=(48, 4))
        right, coarse, fine = (score(labels, rows @ rows.T) for labels in (truth, truth // 2, np.arange(48) % 8))
        assert right > coarse > 3
        assert right > fine > 3
        assert score(np.zeros(48, np.int64), rows @ rows.T) == 0.0
        assert score(np.arange(48), rows @ rows.T) == 0.0
        assert score(truth, np.ones((48, 48))) == 0.0

    def test_agreement_is_the_adjusted_rand_index(self) -> None:
        rng = np.random.default_rng(2)
        for _ in range(20):
            one, other = rng.integers(0, 4, 25), rng.integers(0, 3, 25)
            assert agreement(one, other.tolist()) == pytest.approx(ari(one, other))
        assert agreement(np.zeros(5, np.int64), [7] * 5) == 1.0
        assert agreement(np.arange(5) % 2, [None] * 5) == 0.0
        assert agreement(np.array([0, 1, 0, 1, 0]), [3, 4, 3, None, None]) == 1.0


def test_half_of_the_layers_is_half_of_a_sketch() -> None:
    world = federation(1.0, "none", devices=12)
    evidence = world.evidence(1)
    even, odd = evidence.halves()
    assert all(bases is not None and len(bases) == 28 for half in (even, odd) for bases in half.bases)
    first, second = evidence.bases[0], even.bases[0]
    assert first is not None
    assert second is not None
    assert sorted(first)[::2] == sorted(second)
    sketches = sketches_of(list(evidence.bases))
    halves = sketches.halves()
    assert [half.numbers.shape[1] for half in halves] == [sketches.numbers.shape[1] // 2] * 2
    blocks = sketches.numbers.reshape(12, 56, -1)
    np.testing.assert_array_equal(halves[1].numbers, blocks[:, 1::2].reshape(12, -1))
    some = replace(sketches, trained=np.arange(13) != 4).some(np.array([3, 4, 6]))
    np.testing.assert_array_equal(some.numbers, sketches.numbers[[3, 5]])
    assert some.trained.tolist() == [True, False, True]
