"""Clustering by picture codes, and by the evidence that training confirms."""

from __future__ import annotations

import functools
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from benchmarks.crowd.tastes import NOISES, Federation
from coordinator import rounds
from coordinator.config import BaseModel
from coordinator.config import Federation as Settings
from coordinator.learning.cluster import Tastes
from coordinator.learning.codes import Standing, positions, source_of_most
from coordinator.learning.sketches import Subspaces
from coordinator.methods.clustering import (
    ByPicture,
    ByPrompt,
    Evidence,
    Fused,
    Grouping,
    Labels,
    Matrix,
    Points,
    Validated,
    compare,
    is_stale,
    margin,
)
from coordinator.methods.clustering.points import nearness
from coordinator.methods.clustering.rules.cuts import Cuts
from coordinator.methods.clustering.rules.linkage import ward_linkage
from coordinator.methods.clustering.sketch import sketches_of
from coordinator.methods.clustering.validation import agreement, score
from coordinator.simulation.federation import SimulatedDevice, simulate
from edge_sdk.privacy import LEVELS, picture_code
from edge_sdk.wire import DeviceProfile
from tests.coordinator.adapters import BASE_ID, SLOTS
from tests.coordinator.learners import Learner
from tests.coordinator.settings import federation_of

NAN = np.nan
PLAIN, COARSE = LEVELS["plain"], LEVELS["coarse"]
ENCODER = b"e" * 32


def styles(devices: int, groups: int, seed: int = 0, pictures: int = 12) -> tuple[Matrix, Labels]:
    """Picture codes of equally large groups, the first of them far away, and the groups."""
    rng = np.random.default_rng(seed)
    centres = 3.0 * rng.normal(size=(groups, 32)) / np.sqrt(32)
    centres[0] *= 4.0
    truth = np.arange(devices) % groups
    return centres[truth] + rng.normal(size=(devices, 32)) / np.sqrt(pictures), truth


def evidence_of(pictures: Matrix, codes: Matrix | None = None) -> Evidence:
    return Evidence(np.ones((len(pictures), 4)) if codes is None else codes, (), 0, pictures=pictures)


def labels_of(evidence: Evidence, clusterer: Grouping | None = None, present: int = 0) -> Labels:
    clusterer = clusterer or ByPicture()
    return clusterer.labels(compare(evidence, clusterer(evidence)), present)


def ari(truth: object, found: object) -> float:
    return float(adjusted_rand_score(truth, found))


class TestPictures:
    @pytest.mark.parametrize(("devices", "groups"), [(6, 2), (8, 4), (16, 4), (48, 4), (100, 5), (300, 8)])
    def test_groups_are_found_though_one_is_far_away(self, devices: int, groups: int) -> None:
        pictures, truth = styles(devices, groups)
        assert ari(truth, labels_of(evidence_of(pictures))) == 1.0

    @pytest.mark.parametrize(("devices", "groups"), [(8, 4), (16, 4), (48, 4), (300, 8)])
    def test_coarse_codes_leave_the_groups(self, devices: int, groups: int) -> None:
        """Scatter inside a style is 1 in every dimension, as encoders are best trained."""
        pictures, truth = styles(devices, groups)
        codes = [COARSE.encode_pictures(row[None]) for row in pictures]
        found = positions(codes, [Standing.SEEN] * devices, COARSE)
        assert ari(truth, labels_of(evidence_of(found))) == 1.0

    @pytest.mark.parametrize("devices", [8, 16, 48])
    def test_nor_do_they_make_any(self, devices: int) -> None:
        pictures = np.random.default_rng(devices).normal(size=(devices, 32)) / np.sqrt(8)
        codes = [COARSE.encode_pictures(row[None]) for row in pictures]
        assert not labels_of(evidence_of(positions(codes, [Standing.SEEN] * devices, COARSE))).any()

    @pytest.mark.parametrize("devices", [1, 2, 3, 8, 16, 48])
    def test_devices_of_one_taste_are_one_group(self, devices: int) -> None:
        pictures = np.random.default_rng(devices).normal(size=(devices, 32))
        assert not labels_of(evidence_of(pictures)).any()
        assert not labels_of(evidence_of(np.ones((devices, 32)))).any()

    def test_many_devices_in_micro_clusters(self) -> None:
        pictures, truth = styles(2000, 10)
        evidence = evidence_of(pictures)
        crowd = compare(evidence, ByPicture()(evidence))
        assert not crowd.exact
        assert ari(truth, ByPicture().labels(crowd, 0)) > 0.95
        assert crowd.plane().shape == (2000, 2)

    def test_sizes_and_numbers_are_kept(self) -> None:
        pictures, _ = styles(48, 4)
        pictures[5] += 40.0
        for clusters in (0, 2, 3, 6):
            found = labels_of(evidence_of(pictures), ByPicture(clusters=clusters, min_cluster=5))
            assert np.bincount(found).min() >= 5
            assert clusters in (0, found.max() + 1)
        assert not labels_of(evidence_of(pictures), ByPicture(clusters=1)).any()

    def test_the_present_number_is_kept_where_both_are_as_good(self) -> None:
        """Two tastes that are nearly one."""
        pictures = np.random.default_rng(3).normal(size=(24, 32)) / 4
        numbers = []
        for _ in range(12):
            pictures[:12, 0] += 0.125
            numbers.append([int(labels_of(evidence_of(pictures), present=now).max()) + 1 for now in (1, 2)])
        assert numbers[0] == [1, 1]
        assert [1, 2] in numbers
        assert numbers[-1] == [2, 2]

    def test_the_order_of_devices_does_not_matter(self) -> None:
        pictures, truth = styles(40, 4)
        order = np.random.default_rng(3).permutation(40)
        assert ari(labels_of(evidence_of(pictures[order])), truth[order]) == 1.0

    def test_a_device_without_a_code_joins_by_its_other_evidence(self) -> None:
        pictures, truth = styles(40, 4)
        without = [0, 5, 10, 15, 21]
        pictures[without] = NAN
        codes = np.random.default_rng(0).normal(size=(4, 8))[truth]
        evidence = evidence_of(pictures, codes + 0.05 * np.random.default_rng(1).normal(size=(40, 8)))
        assert ari(truth, labels_of(evidence)) == 1.0
        crowd = compare(evidence, ByPicture()(evidence))
        assert (margin(crowd, truth.tolist()) or 0.0) > 0.2
        assert not crowd.plane()[without].any()

    def test_if_most_have_no_code_the_others_decide(self) -> None:
        pictures, truth = styles(40, 4)
        pictures[:20] = NAN
        codes = np.random.default_rng(0).normal(size=(2, 8))[truth % 2]
        evidence = evidence_of(pictures, codes + 0.05 * np.random.default_rng(1).normal(size=(40, 8)))
        assert ari(truth % 2, labels_of(evidence)) == 1.0
        nobody = replace(evidence, pictures=None)
        assert labels_of(nobody).tolist() == labels_of(evidence).tolist()

    def test_a_device_in_the_wrong_cluster_costs_margin_wherever_it_is(self) -> None:
        """A cluster far away does not hide what becomes of the others."""
        pictures, truth = styles(80, 4)
        evidence = evidence_of(pictures)
        crowd = compare(evidence, ByPicture()(evidence))
        right = margin(crowd, truth.tolist())
        moved = [3 if i % 4 == 2 and i < 40 else int(c) for i, c in enumerate(truth)]
        assert not is_stale(right, right)
        assert is_stale(right, margin(crowd, moved))

    def test_newcomers_join_the_nearest_centroid(self) -> None:
        pictures, truth = styles(41, 4)
        codes = np.random.default_rng(0).normal(size=(41, 8))
        clusters = 7 * truth[:-1]
        evidence = evidence_of(pictures, codes)
        assert ByPicture().place(evidence, clusters) == 7 * truth[-1]
        assert Validated().place(evidence, clusters) == 7 * truth[-1]
        without = pictures.copy()
        without[-1] = NAN
        named = evidence_of(without, np.eye(4)[truth] + 0.01 * codes[:, :4])
        assert ByPicture().place(named, clusters) == 7 * truth[-1]
        assert ByPicture().place(evidence_of(pictures[-1:]), clusters[:0]) == 0

    def test_a_newcomer_goes_by_the_codes_that_the_clusters_came_from(self) -> None:
        """Pictures say nothing, captions everything."""
        pictures = np.random.default_rng(0).normal(size=(41, 32))
        truth = np.arange(41) % 4
        evidence = evidence_of(pictures, np.eye(4)[truth])
        assert Validated().place(evidence, truth[:-1]) == truth[-1]


class TestPoints:
    def test_totals_are_sums_of_similarities(self) -> None:
        pictures, truth = styles(20, 3)
        scaled = pictures - pictures.mean(axis=0)
        scaled /= np.sqrt((scaled**2).sum() / len(scaled))
        wanted = 1.0 - ((scaled[:, None] - scaled[None]) ** 2).sum(axis=2) / 2
        for exact in (True, False):
            crowd = Points(pictures, exact=exact)
            np.testing.assert_allclose(crowd.totals(truth), wanted @ np.eye(3)[truth], atol=1e-9)
        np.testing.assert_allclose(Points(pictures, exact=True).items, wanted, atol=1e-9)

    def test_nearness_is_that_of_the_centroid_without_the_device_itself(self) -> None:
        points = np.array([[0.0], [2.0], [10.0], [12.0], [30.0]])
        found = nearness(points, np.array([0, 0, 1, 1, 2]), 4)
        spread = 1.0  # the median of 1, 1, 1, 1, 0
        np.testing.assert_allclose(
            found[0], [spread / (spread + 4), spread / (spread + 121), spread / (spread + 900), 0]
        )
        assert found[4, 2] == 0.0  # it is alone there

    def test_wards_linkage_of_micro_clusters_is_that_of_their_devices(self) -> None:
        """Equal devices in one item merge as scipy's, which sees each device."""
        rng = np.random.default_rng(0)
        few = rng.normal(size=(9, 3))
        own = np.repeat(np.arange(9), rng.integers(1, 5, 9))
        many = Points(few[own], exact=False)
        assert len(many.items) == 9
        tree, exact = ward_linkage(many), ward_linkage(Points(few[own], exact=True))
        heights = exact[exact[:, 2] > 1e-6, 2]
        np.testing.assert_allclose(tree[:, 2], heights, rtol=1e-6)
        for wanted in (2, 3, 4):
            one, other = Cuts(many, 1).into(wanted)[many.own], Cuts(Points(few[own], exact=True), 1).into(wanted)
            assert ari(one, other) == 1.0


class TestAbsurdCodes:
    @pytest.mark.parametrize("devices", [8, 40, 400])
    @pytest.mark.parametrize("stray", ["huge", "far", "of another length", "none"])
    def test_one_code_decides_nothing_for_the_others(self, devices: int, stray: str) -> None:
        pictures, truth = styles(devices, 4)
        strange = {
            "huge": np.full(32, 3e38),
            "far": np.full(32, 50.0),
            "of another length": np.ones(7),
            "none": np.ones(0),
        }[stray]
        codes = [row.astype("<f4").tobytes() for row in [*pictures, strange]]
        found = positions(codes, [Standing.SEEN] * (devices + 1), PLAIN)
        assert np.isnan(found[-1]).all()
        assert np.isfinite(found[:-1]).all()
        assert ari(truth, labels_of(evidence_of(found))[:-1]) == 1.0

    def test_several_absurd_codes_leave_the_others_their_groups(self) -> None:
        pictures, truth = styles(40, 4)
        huge = np.full((2, 32), 3e38)
        codes = [row.astype("<f4").tobytes() for row in [*pictures, *huge]]
        found = labels_of(evidence_of(positions(codes, [Standing.SEEN] * 42, PLAIN)))
        assert ari(truth, found[:-2]) == 1.0

    @pytest.mark.parametrize("min_cluster", [2, 4])
    def test_several_absurd_codes_are_too_few_for_a_cluster(self, min_cluster: int) -> None:
        pictures, truth = styles(80, 4)
        rng = np.random.default_rng(0)
        far = 1e6 * rng.normal(size=(3, 32))
        codes = [row.astype("<f4").tobytes() for row in [*pictures, *far[[0, 0, 1, 1, 2, 2]]]]
        evidence = evidence_of(positions(codes, [Standing.SEEN] * 86, PLAIN))
        assert ari(truth, labels_of(evidence, ByPicture(min_cluster=min_cluster))[:-6]) == 1.0

    def test_a_small_style_far_away_is_none_of_them(self) -> None:
        pictures, _ = styles(40, 4)
        pictures[:2] = 12.0 + np.random.default_rng(0).normal(size=(2, 32)) / 4
        codes = [row.astype("<f4").tobytes() for row in pictures]
        assert np.isfinite(positions(codes, [Standing.SEEN] * 40, PLAIN)).all()

    def test_the_length_is_that_of_most_of_the_best_known_that_send_one(self) -> None:
        wide, narrow = np.ones(4, "<f4").tobytes(), np.ones(2, "<f4").tobytes()
        standings = [Standing.PROVEN, Standing.SEEN, Standing.NAMED, Standing.NAMED]
        found = positions([b"", wide, narrow, narrow], standings, PLAIN)
        assert found.shape == (4, 4)
        assert np.isfinite(found[:, 0]).tolist() == [False, True, False, False]
        assert np.isnan(positions([b"", b""], [Standing.SEEN] * 2, PLAIN)).all()
        assert len(positions([], [], PLAIN)) == 0


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


class TestCoordinator:
    """From profiles to clusters, as the learning thread does it."""

    def tastes(self, method: str, pictures: Matrix, encoder: bytes = ENCODER, **keys: object) -> Tastes:
        profiles = profiles_of(pictures)
        settings = federation_of(clustering={"method": method, **keys})
        return tastes_of(settings, profiles, encoder)

    @pytest.mark.parametrize("method", ["picture", "validated"])
    def test_devices_that_share_a_style_share_a_cluster(self, method: str) -> None:
        pictures, truth = styles(24, 4)
        tastes = self.tastes(method, pictures)
        names = [f"d{number:02}" for number in range(24)]
        action = rounds.Cluster(1, {name: rounds.Device(max_rank=4) for name in names}, 0)
        found = tastes.cluster(action)
        assert ari(truth, [found.assignment[name] for name in names]) == 1.0
        assert set(found.figures["map"]) == set(names)
        assert found.figures.get("evidence") == (None if method == "picture" else "picture")
        known = {name: found.assignment[name] for name in names[:-1]}
        assert tastes.place(rounds.Place(names[-1], known)).cluster == found.assignment[names[-1]]

    def test_picture_codes_are_made_ready_only_for_clusterers_that_look_at_them(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unwanted(*_: object) -> Matrix:
            raise AssertionError("picture codes were made ready")

        monkeypatch.setattr("coordinator.learning.cluster.positions", unwanted)
        names = [f"d{number:02}" for number in range(8)]
        action = rounds.Cluster(1, {name: rounds.Device(max_rank=4) for name in names}, 0)
        for method in ("fused", "prompt", "adapter", "single"):
            tastes = self.tastes(method, styles(8, 2)[0])
            assert set(tastes.cluster(action).assignment) == set(names)
            assert tastes.place(rounds.Place(names[-1], dict.fromkeys(names[:-1], 3))).cluster == 3
        with pytest.raises(AssertionError, match="made ready"):
            self.tastes("picture", styles(8, 2)[0]).cluster(action)

    def test_by_drift_clusters_stay_until_pictures_change(self) -> None:
        pictures, _ = styles(24, 4)
        names = [f"d{number:02}" for number in range(24)]
        tastes = self.tastes("picture", pictures, recluster="drift")
        first = tastes.cluster(rounds.Cluster(1, {name: rounds.Device(max_rank=4) for name in names}, 0))
        devices = {name: rounds.Device(max_rank=4, cluster=first.assignment[name]) for name in names}
        again = rounds.Cluster(2, devices, 4, first.margin)
        assert tastes.cluster(again).figures["kept"]
        pictures[[1, 5, 9, 13]] = pictures[[2, 6, 10, 14]] + 0.1
        moved = self.tastes("picture", pictures, recluster="drift").cluster(again)
        assert not moved.figures["kept"]
        assert moved.assignment["d01"] == first.assignment["d02"]

    @pytest.mark.parametrize("method", ["picture", "validated"])
    def test_coarse_codes_are_as_good(self, method: str) -> None:
        pictures, truth = styles(24, 4)
        settings = federation_of(clustering=method, privacy="coarse", allow_plain=False)
        found = clusters(tastes_of(settings, profiles_of(pictures, "coarse")), 24)
        assert ari(truth, found) == 1.0

    def test_codes_of_another_level_are_set_aside(self) -> None:
        """Their devices have joined before the federation asked for this one."""
        pictures, truth = styles(24, 4)
        profiles = profiles_of(pictures)
        for number in range(0, 24, 5):
            profiles[f"d{number:02}"] = profiles_of(pictures, "coarse")[f"d{number:02}"]
        tastes = tastes_of(federation_of(clustering="picture"), profiles)
        evidence = seen(tastes, 24)
        assert np.flatnonzero(np.isnan(evidence).any(axis=1)).tolist() == [0, 5, 10, 15, 20]
        rest = np.arange(24) % 5 != 0
        assert ari(truth[rest], np.array(clusters(tastes, 24))[rest]) == 1.0

    @pytest.mark.parametrize("known", [True, False])
    def test_codes_of_another_encoder_are_set_aside(self, known: bool) -> None:
        """It is that of the bundle; of a bundle that has none, that of most devices."""
        pictures, _ = styles(24, 4)
        profiles = profiles_of(pictures)
        for number in range(7):
            name = f"d{number:02}"
            profiles[name] = msgspec.structs.replace(profiles[name], picture_encoder=b"f" * 32)
        tastes = tastes_of(federation_of(clustering="picture"), profiles, ENCODER if known else b"")
        assert np.flatnonzero(np.isnan(seen(tastes, 24)).any(axis=1)).tolist() == [*range(7)]

    def test_the_encoder_of_most_is_that_of_the_best_known(self) -> None:
        codes = [(b"1", b"a"), (b"1", b"b"), (b"1", b"b"), (b"", b"")]
        standings = [Standing.PROVEN, Standing.SEEN, Standing.SEEN, Standing.PROVEN]
        assert source_of_most(codes, standings) == b"a"
        assert source_of_most(codes[1:], standings[1:]) == b"b"
        assert source_of_most(codes[3:], standings[3:]) == b""


def profiles_of(pictures: Matrix, level: str = "plain") -> dict[str, DeviceProfile]:
    """The profiles of devices, with codes as devices make them, of pictures that are all alike."""

    def code(row: Matrix) -> bytes:
        return b"" if np.isnan(row).any() else picture_code(np.tile(row, (8, 1)), level)

    return {
        f"d{number:02}": DeviceProfile(
            base_id=BASE_ID, prompt_code=np.ones(4, "<f4").tobytes(), pictures=5, max_rank=4, level=level,
            picture_code=code(row), picture_encoder=ENCODER,
        )
        for number, row in enumerate(pictures)
    }  # fmt: skip


def tastes_of(settings: Settings, profiles: dict[str, DeviceProfile], encoder: bytes = ENCODER) -> Tastes:
    subspaces = Subspaces(lambda trace: None, {}, _NoSketches())  # type: ignore[arg-type]
    return Tastes(settings, lambda: profiles, subspaces, encoder=encoder)


def clusters(tastes: Tastes, devices: int) -> list[int]:
    names = [f"d{number:02}" for number in range(devices)]
    found = tastes.cluster(rounds.Cluster(1, {name: rounds.Device(max_rank=4) for name in names}, 0))
    return [found.assignment[name] for name in names]


def seen(tastes: Tastes, devices: int) -> Matrix:
    """The picture codes that are compared."""
    names = [f"d{number:02}" for number in range(devices)]
    pictures = tastes._codes(names, [Standing.SEEN] * devices)[1]
    assert pictures is not None
    return pictures


def test_a_whole_federation_by_picture_codes() -> None:
    """Through the real rounds and the store: captions and training say even and odd, pictures first and second half."""
    learners = [Learner(number) for number in range(8)]
    halves = np.arange(8) // 4
    pictures = styles(2, 2)[0][halves] + np.random.default_rng(0).normal(size=(8, 32)) / 4
    devices = {
        learner.name: SimulatedDevice(
            msgspec.structs.replace(learner.profile, picture_code=row.astype("<f4").tobytes(), picture_encoder=ENCODER),
            learner.train,
        )
        for learner, row in zip(learners, pictures, strict=True)
    }
    for method, wanted in (("picture", halves), ("fused", np.arange(8) % 2)):
        settings = federation_of(rounds=1, min_devices=8, rank=4, steps=2, clustering=method, interaction="none")
        outcomes = simulate(
            settings, BaseModel(BASE_ID, SLOTS, picture_dimensions=32, picture_encoder=ENCODER), devices
        )
        assert ari(wanted, [outcomes[learner.name].cluster for learner in learners]) == 1.0


class _NoSketches:
    def prune(self, kept: object) -> None: ...


def test_a_profile_that_lacks_the_field_is_of_an_earlier_version() -> None:
    whole = DeviceProfile(base_id=BASE_ID, prompt_code=bytes(4), pictures=5, max_rank=4)
    earlier = msgspec.to_builtins(whole, builtin_types=(bytes,))
    del earlier["picture_code"]
    assert msgspec.convert(earlier, DeviceProfile) == whole
