"""Clustering by sums: plain k-means bit for bit, losses, slots that are never too small, and sums that are refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import groupby
from math import floor, isqrt

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from coordinator.methods.clustering.by_sums import Groups, Plan, State, begin, least_silhouette, merged, step
from coordinator.methods.clustering.by_sums.starts import cholesky
from edge_sdk.errors import ConfigurationError, MasksLeft, TooFewDevices
from edge_sdk.privacy import (
    DIMENSIONS,
    FARTHEST,
    SILHOUETTE,
    STEPS,
    SUBSTEPS,
    Question,
    answer,
    check_follows,
    check_question,
    nearest_centroid,
    read_question,
)
from tests.secure_aggregation.world import World, terms

Words = npt.NDArray[np.uint32]
Company = Callable[[Question, Sequence[bytes]], Sequence[bytes]]


def plan(**changes: object) -> Plan:
    given = {"epoch": 3, "clustering": 1, "seed": b"seed", "smallest": 2, "centroids": 140}
    return Plan(**{**given, **changes})  # type: ignore[arg-type]


def codes(devices: int, styles: int, scatter: float, seed: int = 0) -> list[bytes]:
    """Codes of devices of so many styles in turn, each at random about its style's place."""
    rng = np.random.default_rng(seed)
    places = rng.normal(size=(styles, DIMENSIONS))
    places *= 0.7 * STEPS / np.linalg.norm(places, axis=1, keepdims=True)
    rows = places[np.arange(devices) % styles] + scatter * rng.normal(size=(devices, DIMENSIONS))
    return [np.clip(np.rint(row), -STEPS, STEPS).astype(np.int8).tobytes() for row in rows]


def summed(question: Question, own: Sequence[bytes]) -> Words:
    total: Words = np.sum([answer(question, code) for code in own], axis=0, dtype=np.uint32)
    return total


def everybody(_: Question, own: Sequence[bytes]) -> Sequence[bytes]:
    return own


def clustered(
    own: Sequence[bytes], chosen: Plan, company: Company = everybody
) -> tuple[Groups, list[tuple[State, Words]]]:
    """The groups, and each state with the sum that it got; questions and states go through their bytes."""
    state, before, seen = begin(chosen), None, []
    while True:
        question = read_question(msgspec.msgpack.encode(state.question))
        check_question(question)
        check_follows(question, before)
        here = company(question, own)
        total = summed(question, here)
        seen.append((state, total))
        stored = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=State)
        found = step(stored, len(here), total)
        if isinstance(found, Groups):
            return found, seen
        before, state = question, found


def labels(own: Sequence[bytes], found: Groups) -> list[int]:
    return [nearest_centroid(code, np.array(found.centroids)) for code in own]


# against plain k-means ----------------------------------------------------------------------------------------------


def plain_groups(own: Sequence[bytes], chosen: Plan, starts: Sequence[npt.NDArray[np.int64]]) -> Groups:
    """Lloyd's algorithm on all codes in one place, device by device, from the same starts."""
    points = [[int(value) for value in np.frombuffer(code, np.int8)] for code in own]

    def distance(point: list[int], centroid: Sequence[int]) -> int:
        return sum((SUBSTEPS * one - other) ** 2 for one, other in zip(point, centroid, strict=True))

    def choices(centroids: Sequence[Sequence[int]]) -> list[int]:
        return [min(range(len(centroids)), key=lambda k: distance(point, centroids[k])) for point in points]

    def mean(members: Sequence[list[int]]) -> list[int]:
        return [
            floor(Fraction(SUBSTEPS * sum(column), len(members)) + Fraction(1, 2))
            for column in zip(*members, strict=True)
        ]

    def turn(centroids: list[list[int]]) -> tuple[list[list[int]], Fraction]:
        chosen_by = choices(centroids)
        counts = [chosen_by.count(k) for k in range(len(centroids))]
        slots = merged(counts, np.array(centroids), chosen.smallest)
        found, error = [], Fraction(0)
        for slot in range(max(slots) + 1):
            inside = [point for point, k in zip(points, chosen_by, strict=True) if slots[k] == slot]
            found.append(mean(inside))
            for column in zip(*inside, strict=True):
                centre = Fraction(sum(column), len(inside))
                error += sum((value - centre) ** 2 for value in column)
        return found, error

    trials = [(len(start), start.tolist()) for start in starts]
    for _ in range(chosen.turns):
        results = [(wanted, *turn(centroids)) for wanted, centroids in trials]
        still = [(wanted, centroids) for wanted, centroids, _ in results] == trials
        trials = [(wanted, centroids) for wanted, centroids, _ in results]
        if still:
            break
    best = [
        min(same, key=lambda result: result[2])[1]
        for _, same in ((k, list(g)) for k, g in groupby(results, lambda r: r[0]))
    ]
    judged = []
    for centroids in best:
        chosen_by = choices(centroids)
        counts = [chosen_by.count(k) for k in range(len(centroids))]
        clear = 0
        for point, own_k in zip(points, chosen_by, strict=True):
            others = [distance(point, c) for k, c in enumerate(centroids) if k != own_k]
            if others and min(others):
                clear += SILHOUETTE - isqrt(distance(point, centroids[own_k]) * SILHOUETTE**2 // min(others))
        judged.append((clear, centroids, counts))
    assert any(min(counts) >= chosen.smallest for *_, counts in judged), "the reference merges nothing at the end"
    judged = [one for one in judged if min(one[2]) >= chosen.smallest]
    clear, centroids, counts = max(judged, key=lambda one: one[0])
    unclear = not chosen.clusters and clear < least_silhouette(len(points)) * len(points) * SILHOUETTE
    if unclear or len(centroids) == 1:
        return Groups(centroids=(tuple(mean(points)),), counts=(len(points),), silhouette=0.0, questions=0)
    rows = sorted(zip(counts, centroids, strict=True), key=lambda row: (-row[0], row[1]))
    return Groups(
        centroids=tuple(tuple(place) for _, place in rows),
        counts=tuple(count for count, _ in rows),
        silhouette=clear / (len(points) * SILHOUETTE),
        questions=0,
    )


@pytest.mark.parametrize(
    ("devices", "styles", "scatter", "clusters", "smallest"),
    [
        (8, 4, 0.2, 0, 2),
        (8, 4, 0.2, 4, 2),
        (24, 4, 1.0, 0, 2),
        (24, 3, 1.0, 0, 3),
        (31, 1, 1.0, 0, 2),
        (40, 5, 1.0, 5, 3),
    ],
)
def test_the_groups_are_those_of_plain_k_means_bit_for_bit(
    devices: int, styles: int, scatter: float, clusters: int, smallest: int
) -> None:
    own = codes(devices, styles, scatter)
    chosen = plan(clusters=clusters, smallest=smallest, centroids=280)
    found, seen = clustered(own, chosen)
    starts = [centroids for centroids, _ in seen[1][0].question.trials]
    assert msgspec.structs.replace(found, questions=0) == plain_groups(own, chosen, starts)
    if styles > 1:
        assert adjusted_rand_score(np.arange(devices) % styles, labels(own, found)) == 1
    else:
        assert len(found.counts) == 1


def test_a_masked_sum_gives_the_same() -> None:
    """Every question's answers through the machines of masked sums, two of eight devices lost in one of them."""
    own = codes(8, 2, 0.5)
    names = [f"device-{number}" for number in range(len(own))]

    def masked(question: Question, given: Sequence[bytes]) -> Sequence[bytes]:
        world = World(names, terms(words=question.words, attempt=question.number))
        world.vectors = {name: answer(question, code) for name, code in zip(names, given, strict=True)}
        world.begin()
        world.upload(*(names[2:] if question.kind == "places" else names))
        world.time_up()
        while world.total is None:
            assert world.error is None
            world.time_up()
        assert world.task is not None
        there = [code for name, code in zip(names, given, strict=True) if name in world.task.uploads]
        assert world.total.tolist() == summed(question, there).tolist()
        return there

    found, _ = clustered(own, plan(), masked)
    assert adjusted_rand_score([0, 1] * 4, labels(own, found)) == 1


def test_known_answer() -> None:
    """For other implementations: two groups of three devices, which differ in their first two numbers."""
    own = [bytes([6, side, *[0] * 14]) for side in (0, 1, 2)] + [bytes([250, side, *[0] * 14]) for side in (0, 1, 2)]
    found, seen = clustered(own, plan(seed=bytes(16), centroids=40, most=3, smallest=3))
    assert found == Groups(
        centroids=((-96, 16, *[0] * 14), (96, 16, *[0] * 14)),
        counts=(3, 3),
        silhouette=5804 / (6 * SILHOUETTE),
        questions=6,
    )
    assert [state.question.kind for state, _ in seen] == ["spread", *["counts", "places"] * 2, "counts"]
    assert len(seen[1][0].question.sizes) == 20
    starts = [centroids[:, :2].tolist() for centroids, _ in seen[1][0].question.trials[:2]]
    assert starts == [[[-77, 15], [30, 16]], [[-128, 6], [79, -5]]]
    sums = [total.view(np.int32).tolist() for _, total in seen]
    assert [words[:4] for words in sums[:3]] == [[6, 0, 6, 0], [3, 3, 3, 3], [3, -18, 3, 0]]
    assert sums[5] == [3, 3, 5804]


# losses -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_groups_are_found_although_others_are_lost_in_every_step(seed: int) -> None:
    """30 of 100, other ones in each sum."""
    own, rng = codes(40, 4, 1.0, seed), np.random.default_rng(seed)

    def some(_: Question, given: Sequence[bytes]) -> Sequence[bytes]:
        return [given[place] for place in rng.choice(len(given), 28, replace=False)]

    found, _ = clustered(own, plan(), some)
    assert adjusted_rand_score(np.arange(40) % 4, labels(own, found)) == 1


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 24), st.integers(1, 5), st.floats(0, 6), st.integers(2, 5), st.integers(0, 5), st.floats(0, 0.5),
    st.integers(0, 2**32),
)  # fmt: skip
def test_no_slot_below_the_smallest_group_is_asked_for_or_published(
    devices: int, styles: int, scatter: float, smallest: int, clusters: int, lost: float, seed: int
) -> None:
    """Whatever is lost, a clustering ends within the questions that a device answers, and nothing small is shown.

    Only a device that is lost between two sums can leave fewer in a slot, as far as it was in it.
    """
    own, rng = codes(max(devices, smallest), styles, scatter, seed), np.random.default_rng(seed)
    least = max(smallest, len(own) - int(lost * len(own)))

    def some(_: Question, given: Sequence[bytes]) -> Sequence[bytes]:
        return [given[place] for place in rng.choice(len(given), rng.integers(least, len(given) + 1), replace=False)]

    found, seen = clustered(own, plan(smallest=smallest, clusters=clusters, centroids=70), some)
    assert min(found.counts) >= smallest
    assert len(found.counts) <= (clusters or 8)
    assert np.abs(np.array(found.centroids)).max() <= FARTHEST
    for state, total in seen:
        if state.question.kind == "places" and not lost:
            numbers = total.view(np.int32).reshape(-1, 1 + DIMENSIONS)[:, 0]
            assert numbers.min() >= smallest
    again, same = clustered(own, plan(smallest=smallest, clusters=clusters, centroids=70))
    assert clustered(own, plan(smallest=smallest, clusters=clusters, centroids=70))[0] == again
    assert len(same) == again.questions


# cases at the edge --------------------------------------------------------------------------------------------------


def test_equal_devices_are_one_group() -> None:
    own = codes(1, 1, 1.0) * 9
    for clusters in (0, 3):
        found, seen = clustered(own, plan(clusters=clusters))
        assert found == Groups(
            centroids=(tuple(SUBSTEPS * np.frombuffer(own[0], np.int8).astype(int)),),
            counts=(9,),
            silhouette=0.0,
            questions=1,
        )
        assert len(seen) == 1


@pytest.mark.parametrize("changes", [{"most": 1}, {"clusters": 1}, {"smallest": 5}])
def test_one_group_needs_the_spread_only(changes: dict[str, int]) -> None:
    own = codes(9, 3, 0.5)
    found, seen = clustered(own, plan(**changes))
    assert (found.counts, len(seen)) == ((9,), 1)
    mean = np.mean([np.frombuffer(code, np.int8) for code in own], axis=0)
    assert np.abs(np.array(found.centroids[0]) - SUBSTEPS * mean).max() <= 0.5


def test_two_places_make_two_groups_whatever_the_number_asked_for() -> None:
    """Most starts are empty then: they share a slot with others, and no mean of nobody is made."""
    one, other = codes(2, 2, 0.5)
    found, _ = clustered([one, other] * 6, plan(clusters=6))
    assert found.counts == (6, 6)
    assert sorted(found.centroids) == sorted(
        tuple(SUBSTEPS * np.frombuffer(code, np.int8).astype(int)) for code in (one, other)
    )


def test_a_device_far_from_all_others_gets_no_group_of_its_own() -> None:
    far = np.full(DIMENSIONS, -STEPS, np.int8).tobytes()
    found, _ = clustered([*codes(12, 2, 0.5), far], plan(clusters=3))
    assert min(found.counts) >= 2


def test_groups_that_lose_too_many_at_the_end_are_merged_and_counted_again() -> None:
    own = codes(12, 4, 0.3)

    def two_styles(question: Question, given: Sequence[bytes]) -> Sequence[bytes]:
        return given if question.number < 4 else [*given[0::4], *given[1::4]]

    found, seen = clustered(own, plan(clusters=4, turns=1), two_styles)
    assert seen[-1][0].judging
    assert found.questions > 4
    assert sum(found.counts) == 6
    assert min(found.counts) >= 2


def test_the_largest_sum_fits() -> None:
    for number in (-STEPS, STEPS):
        own = [np.full(DIMENSIONS, number, np.int8).tobytes()] * 1024
        found, _ = clustered(own, plan())
        assert found.centroids == ((SUBSTEPS * number,) * DIMENSIONS,)
    with pytest.raises(ConfigurationError, match="2 sums"):
        step(begin(plan()), 1025, summed(begin(plan()).question, own[:1]))


def test_too_few_devices() -> None:
    own = codes(2, 1, 1.0)
    state = begin(plan(smallest=3))
    with pytest.raises(TooFewDevices, match="ask again"):
        step(state, 2, summed(state.question, own))


@pytest.mark.parametrize(
    "changes",
    [{"clusters": -1}, {"clusters": 65}, {"most": 0}, {"smallest": 1}, {"turns": 0}, {"turns": 8}, {"centroids": 34},
     {"centroids": 2049}, {"clusters": 50, "centroids": 40}],
)  # fmt: skip
def test_plans_that_cannot_be(changes: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match="choose"):
        begin(plan(**changes))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 8), st.data())
def test_a_sum_with_a_mask_left_is_refused(number: int, data: st.DataObject) -> None:
    """At every question; words at random, one word changed, or a sum of other devices than are said to be in it."""
    own = codes(12, 3, 1.0)
    _, seen = clustered(own, plan())
    state, total = seen[number % len(seen)]
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    noise = rng.integers(0, 2**32, len(total), dtype=np.uint32)
    for wrong in (noise, total + noise, total[:-1], np.append(total, total[:1]), total.astype(np.int64)):
        with pytest.raises(MasksLeft, match="asked again"):
            step(state, len(own), wrong)
    for devices in (len(own) - 1, len(own) + 1):
        with pytest.raises(MasksLeft, match="asked again"):
            step(state, devices, total)


def test_a_sum_of_numbers_that_are_none_is_refused() -> None:
    state = begin(plan())
    for wrong in (np.nan, np.inf):
        with pytest.raises(MasksLeft, match="float"):
            step(state, 9, np.full(state.question.words, wrong))


# parts --------------------------------------------------------------------------------------------------------------


def test_small_groups_join_the_nearest() -> None:
    line = np.array([[place, *[0] * 15] for place in (0, 10, 100, 104)])
    assert merged([5, 5, 5, 5], line, 2) == [0, 1, 2, 3]
    assert merged([5, 1, 5, 5], line, 2) == [0, 0, 1, 2]
    assert merged([5, 5, 0, 5], line, 2) == [0, 1, 2, 2]
    assert merged([1, 1, 1, 1], line, 2) == [0, 0, 1, 1]
    assert merged([1, 1, 1, 0], line, 3) == [0, 0, 0, 0]
    assert merged([0, 0, 0, 9], line, 3) == [0, 0, 0, 0]
    assert merged([4], line[:1], 9) == [0]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(1, 6), st.integers(0, 2**32))
def test_merged_slots_are_large_enough_and_no_larger_than_needed(counts: list[int], smallest: int, seed: int) -> None:
    centroids = np.random.default_rng(seed).integers(-FARTHEST, FARTHEST, (len(counts), DIMENSIONS))
    slots = merged(counts, centroids, smallest)
    sizes = np.bincount(slots, weights=counts)
    assert sizes.min() >= smallest or len(sizes) == 1
    assert sizes.sum() == sum(counts)
    assert [slot for place, slot in enumerate(slots) if slot not in slots[:place]] == list(range(len(sizes)))
    if min(counts) >= smallest:
        assert slots == list(range(len(counts)))


@settings(max_examples=50)
@given(st.integers(1, 40), st.integers(0, 2**32))
def test_the_factor_of_a_covariance(devices: int, seed: int) -> None:
    """Also of fewer points than directions, which scatter in few of them."""
    points = np.random.default_rng(seed).integers(-STEPS, STEPS + 1, (devices, DIMENSIONS))
    covariance = devices * points.T @ points - np.outer(points.sum(axis=0), points.sum(axis=0))
    factor = cholesky(covariance)
    assert np.array_equal(factor, np.tril(factor))
    assert np.abs(factor @ factor.T - covariance).max() <= 1e-4 * max(1, covariance.max())


def test_starts_scatter_as_the_codes_do() -> None:
    own = codes(200, 4, 1.0)
    _, seen = clustered(own, plan(centroids=2048, clusters=4))
    points = np.array([np.frombuffer(code, np.int8) for code in own]).astype(float)
    starts = np.concatenate([centroids for centroids, _ in seen[1][0].question.trials]) / SUBSTEPS
    assert starts.mean(axis=0) == pytest.approx(points.mean(axis=0), abs=0.4)
    assert np.cov(starts.T) == pytest.approx(np.cov(points.T), abs=0.15 * np.cov(points.T).max())
