"""Clustering by picture codes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from coordinator.learning.codes import Standing, positions
from coordinator.methods.clustering import (
    ByPicture,
    Points,
    Validated,
    compare,
    is_stale,
    margin,
)
from coordinator.methods.clustering.points import nearness
from coordinator.methods.clustering.rules.cuts import Cuts
from coordinator.methods.clustering.rules.linkage import ward_linkage
from tests.coordinator.learning.picture_styles import COARSE, NAN, PLAIN, ari, evidence_of, labels_of, styles


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
