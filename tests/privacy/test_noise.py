"""Noise of level "local+dp": its distribution, its source, its budget; answers of bounded length."""

from __future__ import annotations

import math
import random
import secrets
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from edge_sdk.errors import ConfigurationError, PrivacyBudgetSpent, PrivacyRefused, PromptError
from edge_sdk.privacy import (
    COUNTED,
    DIMENSIONS,
    GRAIN,
    STEPS,
    Guarantee,
    Question,
    Spent,
    bounded_answer,
    check_epsilon,
    cost,
    discrete_gaussian,
    gaussian_epsilon,
    gaussian_mu,
    noisy_answer,
    part_of_noise,
)

GUARANTEE = Guarantee(epsilon=4.0, delta=1e-5)
CENTRE = np.full(DIMENSIONS, 20, "<i2").tobytes()
RNG = np.random.default_rng(0)


def question(kind: str, centroids: int = 0, around: bytes = CENTRE, trials: int = 1) -> Question:
    places = np.random.default_rng(centroids).integers(-100, 101, (centroids * trials, DIMENSIONS)).astype("<i2")
    return Question(
        epoch=1, clustering=1, number=1, kind=kind, sizes=(centroids,) * trials if centroids else (),  # type: ignore[arg-type]
        centroids=places.tobytes(), slots=bytes(range(centroids)) * trials, around=around,
    )  # fmt: skip


MEAN, SPREAD = question("places", 1, b""), question("spread")
CELLS, GROUPS = question("places", 12), question("places", 4)
ASKED = (MEAN, SPREAD, CELLS, GROUPS)


@pytest.mark.parametrize("variance", [1, 2, 10, 400])
def test_noise_is_a_discrete_gaussian(variance: int) -> None:
    below = random.Random(variance).randrange
    drawn = Counter(discrete_gaussian(variance, below) for _ in range(20_000))
    reach = 2 + round(2.5 * math.sqrt(variance))
    weights = {x: math.exp(-x * x / (2 * variance)) for x in range(-40 * reach, 40 * reach + 1)}
    whole = sum(weights.values())
    inside = [x for x in range(-reach, reach + 1) if 20_000 * weights[x] / whole >= 5]
    seen = [drawn[x] for x in inside] + [20_000 - sum(drawn[x] for x in inside)]
    wanted = [20_000 * weights[x] / whole for x in inside]
    wanted.append(20_000 - sum(wanted))
    assert chisquare(seen, wanted).pvalue > 1e-3


def test_large_noise_has_the_variance_that_is_asked_for() -> None:
    below = random.Random(1).randrange
    variance = 10**9 + 7
    drawn = [discrete_gaussian(variance, below) for _ in range(4000)]
    assert abs(np.mean(drawn)) < 4 * math.sqrt(variance / 4000)
    assert np.var(drawn) == pytest.approx(variance, rel=0.1)


def test_the_noise_of_an_answer_is_of_the_systems_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither numpy's generator nor `random` decides anything."""
    code = bytes(DIMENSIONS)
    np.random.seed(0)
    random.seed(0)
    first = noisy_answer(GROUPS, code, 1 << 20)
    np.random.seed(0)
    random.seed(0)
    assert (noisy_answer(GROUPS, code, 1 << 20) != first).any()
    asked: list[int] = []
    own = secrets.SystemRandom.getrandbits
    monkeypatch.setattr(secrets.SystemRandom, "getrandbits", lambda self, bits: asked.append(bits) or own(self, bits))
    noisy_answer(GROUPS, code, 1 << 20)
    assert len(asked) > GROUPS.words


def test_mu_is_that_of_the_closed_form() -> None:
    """The epsilons are those of dp-accounting 0.6 (PLDAccountant) for the four shares of these mu, composed."""
    for epsilon, delta, mu in (
        (1.0, 1e-5, 0.268051), (4.0, 1e-5, 0.924930), (8.0, 1e-5, 1.666030), (2.0, 1e-6, 0.448334),
    ):  # fmt: skip
        assert gaussian_mu(epsilon, delta) == pytest.approx(mu, abs=1e-6)
        assert gaussian_epsilon(gaussian_mu(epsilon, delta), delta) == pytest.approx(epsilon, abs=1e-6)


def test_the_questions_of_a_clustering_spend_the_whole_budget_and_no_more() -> None:
    spent, allowed = Spent(), GUARANTEE.epsilon
    for one in (MEAN, SPREAD, CELLS, GROUPS):
        spent.check(cost(one, GUARANTEE), allowed, GUARANTEE.delta)
        spent = spent.and_now(cost(one, GUARANTEE), GUARANTEE.delta)
    assert (spent.answers, spent.epsilon) == (4, pytest.approx(4.0))
    with pytest.raises(PrivacyBudgetSpent, match=r"4 answers to questions have spent epsilon 4 of the 4 .* --epsilon"):
        spent.check(cost(MEAN, GUARANTEE), allowed, GUARANTEE.delta)
    spent.check(cost(MEAN, GUARANTEE), 5.0, GUARANTEE.delta)


@pytest.mark.parametrize(
    "asked",
    [question("counts", 4), question("counts", 4, b""), question("places", 4, b""), question("spread", 0, b""),
     question("places", 4, CENTRE, trials=2), question("places", 1, b"", trials=2)],
)  # fmt: skip
def test_questions_without_noise_have_no_price(asked: Question) -> None:
    """A hostile coordinator asks them of devices whose answers have noise."""
    with pytest.raises(PrivacyRefused, match="nothing is sent"):
        cost(asked, GUARANTEE)


codes = st.binary(min_size=DIMENSIONS, max_size=DIMENSIONS).map(
    lambda raw: (np.frombuffer(raw, np.uint8) % (2 * STEPS + 1)).astype(np.int8) - STEPS
)


@given(codes, st.sampled_from(ASKED))
def test_no_answer_is_longer_than_its_bound(code: np.ndarray[tuple[int], np.dtype[np.int8]], asked: Question) -> None:
    found = bounded_answer(asked, code.astype(np.int8).tobytes())
    assert found.shape == (asked.words,)
    assert 4 * sum(int(value) ** 2 for value in found) <= 5 * GRAIN**2


def test_answers_are_the_codes_about_the_centre() -> None:
    code = RNG.integers(-STEPS, STEPS + 1, DIMENSIONS)
    away = 16 * code - 20
    unit = away / max(48.0, np.linalg.norm(away))
    answer = bounded_answer(SPREAD, code.astype(np.int8).tobytes())
    assert answer[0] == COUNTED
    rows, columns = np.triu_indices(DIMENSIONS)
    wanted = unit[rows] * unit[columns] * np.where(rows == columns, 1, math.sqrt(2))
    assert np.abs(answer[1:] / GRAIN - wanted).max() < 2 / GRAIN
    slots = bounded_answer(GROUPS, code.astype(np.int8).tobytes()).reshape(4, -1)
    (filled,) = np.flatnonzero(slots[:, 0])
    assert slots[filled, 0] == COUNTED
    assert np.abs(slots[filled, 1:] / GRAIN - unit).max() < 2 / GRAIN
    assert not np.delete(slots, filled, axis=0).any()


def test_parts_of_the_noise_are_the_whole_one_of_those_that_are_left() -> None:
    for asked, share in zip(ASKED, (1 / 8, 3 / 8, 1 / 4, 1 / 4), strict=True):
        whole = 60 * part_of_noise(asked, GUARANTEE, 60)
        deviation = math.sqrt(whole) / (GRAIN * math.sqrt(5 / 4))
        assert 1 / deviation == pytest.approx(GUARANTEE.mu * math.sqrt(share), rel=1e-6)
        assert 1 / deviation <= GUARANTEE.mu * math.sqrt(share)


def test_a_code_of_another_level_is_refused() -> None:
    with pytest.raises(PromptError, match="level"):
        noisy_answer(MEAN, bytes(3), 100)


@pytest.mark.parametrize(
    ("levels", "epsilon", "why"),
    [
        (["local+dp"], None, "needs the largest epsilon"), (["local"], 4.0, "is for level"),
        (["local+dp"], 0.5, "choose 1"), (["local+dp"], 9.0, "choose 1 to 8"),
        (["coarse", "local+dp"], float("nan"), "choose 1"),
    ],
)  # fmt: skip
def test_an_owner_says_how_much_may_be_told(levels: list[str], epsilon: float | None, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        check_epsilon(levels, epsilon)
    check_epsilon(["coarse"], None)
    check_epsilon(["coarse", "local+dp"], 4.0)
