"""Degree and threshold: known answers, the bounds by another way, and what a device accepts."""

from __future__ import annotations

from itertools import combinations
from math import comb

import pytest
from scipy.stats import hypergeom

from edge_sdk.errors import ConfigurationError
from edge_sdk.secure_aggregation import FEWEST_DEVICES, MOST_DEVICES, Parameters, Policy, parameters, shards


@pytest.mark.parametrize(
    ("devices", "wanted", "quorum", "fewest"),
    [
        (3, (2, 2), 2, 3),
        (4, (3, 3), 3, 3),
        (8, (7, 5), 5, 5),
        (20, (19, 11), 12, 12),
        (49, (48, 25), 27, 27),
        (50, (22, 6), 28, 35),
        (100, (34, 11), 56, 70),
        (200, (54, 21), 111, 140),
        (500, (76, 31), 276, 350),
        (1000, (88, 36), 551, 700),
        (10_000, (108, 44), 5501, 7000),
    ],
)
def test_known_answers(devices: int, wanted: tuple[int, int], quorum: int, fewest: int) -> None:
    """At 10 % that collude, 30 % that are lost, 2^-40 and 2^-20."""
    given = parameters(devices)
    assert given == wanted
    assert Policy().parameters(devices) == given
    assert (Policy().quorum(devices), Policy().fewest(devices, given)) == (quorum, fewest)


@pytest.mark.parametrize(
    ("devices", "colluding", "dropping", "wanted"),
    [
        (100, 0.45, 0.45, (92, 46)),
        (100, 0.33, 0.33, (68, 34)),
        (1000, 0.33, 0.33, (286, 150)),
        (10_000, 0.33, 0.33, (422, 221)),
        (100, 0.05, 0.33, (28, 6)),
        (1000, 0.05, 0.33, (72, 24)),
        (10_000, 0.05, 0.33, (86, 29)),
        (100, 0.33, 0.05, (34, 29)),
        (1000, 0.33, 0.05, (78, 60)),
        (10_000, 0.33, 0.05, (92, 70)),
    ],
)
def test_the_published_table_of_google_s_implementation(
    devices: int, colluding: float, dropping: float, wanted: tuple[int, int]
) -> None:
    """Semi-honest rows of its tests (google-parfait/federated-compute, graph_parameter_finder_test.cc)."""
    assert parameters(devices, colluding, dropping) == wanted


@pytest.mark.parametrize("devices", [50, 73, 128, 200, 513, 1000])
def test_the_bounds_by_scipy(devices: int) -> None:
    degree, threshold = parameters(devices)
    colluding, left = int(devices * 0.1 + 1e-9), devices - int(devices * 0.3 + 1e-9)
    assert devices * hypergeom(devices - 1, colluding, degree).sf(threshold - 1) <= 2.0**-41
    assert devices * hypergeom(devices - 1, left - 1, degree).cdf(threshold - 1) <= 2.0**-20
    assert Policy().suffices(devices, Parameters(degree, threshold))
    assert not Policy().suffices(devices, Parameters(degree, threshold - 1))
    assert not Policy().suffices(devices, Parameters(degree, degree + 1))
    assert not Policy().suffices(devices, Parameters(degree - 1, threshold))


@pytest.mark.parametrize("devices", range(3, 200))
def test_two_quorums_have_an_honest_device_in_common(devices: int) -> None:
    colluding = int(devices * 0.1 + 1e-9)
    assert 2 * Policy().quorum(devices) - devices > colluding
    assert Policy().fewest(devices, Policy().parameters(devices)) >= Policy().quorum(devices)


def test_a_ring_falls_apart_where_it_breaks_in_two_places() -> None:
    """The count behind the first bound, against all sets of losses of a small ring."""
    devices, degree, lost = 10, 4, 5
    broken = sum(_falls_apart(set(gone), devices, degree) for gone in combinations(range(devices), lost))
    pairs = devices * (devices - degree - 1) // 2
    assert 0 < broken <= pairs * comb(devices - degree, lost - degree)


def _falls_apart(gone: set[int], devices: int, degree: int) -> bool:
    left = [place for place in range(devices) if place not in gone]
    reached, edge = {left[0]}, [left[0]]
    while edge:
        here = edge.pop()
        for other in left:
            apart = min((here - other) % devices, (other - here) % devices)
            if apart <= degree // 2 and other not in reached:
                reached.add(other)
                edge.append(other)
    return len(reached) < len(left)


@pytest.mark.parametrize("devices", [3, 5, 12, 49])
def test_what_is_enough_in_a_complete_graph(devices: int) -> None:
    policy = Policy()
    given = policy.parameters(devices)
    assert given == Parameters(devices - 1, devices // 2 + 1)
    assert policy.suffices(devices, given)
    assert not policy.suffices(devices, Parameters(devices - 1, given.threshold - 1))
    assert not policy.suffices(devices, Parameters(devices - 1, devices - int(devices * 0.3) + 1))
    assert not policy.suffices(devices, Parameters(devices - 2, given.threshold))


def test_fewest_of_a_sparse_graph_are_all_but_the_share_that_may_be_lost() -> None:
    assert Policy().fewest(200, Policy().parameters(200)) == 140
    assert Policy(dropping=0.1).fewest(64, Policy(dropping=0.1).parameters(64)) == 58


@pytest.mark.parametrize("devices", [0, 1, 2, 1_000_001])
def test_too_few_or_too_many(devices: int) -> None:
    with pytest.raises(ConfigurationError, match="masked sum"):
        parameters(devices)


@pytest.mark.parametrize(
    ("devices", "colluding", "dropping"), [(8, 0.7, 0.1), (8, 0.1, 0.5), (60, 0.5, 0.5), (200, 0.9, 0.3)]
)
def test_no_graph_keeps_the_bounds(devices: int, colluding: float, dropping: float) -> None:
    with pytest.raises(ConfigurationError, match="lower the share"):
        parameters(devices, colluding, dropping)


def test_no_quorum_would_be_left() -> None:
    assert parameters(100, 0.45, 0.45) == (92, 46)
    with pytest.raises(ConfigurationError, match="lower the share"):
        Policy(colluding=0.45, dropping=0.45).parameters(100)


def test_shards() -> None:
    assert shards(1) == [1]
    assert shards(MOST_DEVICES) == [MOST_DEVICES]
    assert shards(MOST_DEVICES + 1) == [513, 512]
    assert shards(10_000) == [1000] * 10
    for devices in range(MOST_DEVICES, 5000, 37):
        sizes = shards(devices)
        assert sum(sizes) == devices
        assert max(sizes) <= MOST_DEVICES
        assert max(sizes) - min(sizes) <= 1
    assert FEWEST_DEVICES == 3
