"""A device's answers at level "local+dp": those of level "local" of bounded length, in integers, with noise.

The code is taken about the centre that a question states, or about zero, and cut to length 1: in units of 3/8 of the
public radius, or of the whole. The numbers of an answer are those below, z being the code, times `GRAIN` and rounded
towards zero, so that their length is never more than the square root of 5/4, however many slots there are:

    mean        1/2 | z, about zero: places with a single centroid
    spread      1/2 | z_i z_j for i <= j, row by row, those of i < j times the square root of 2
    places      for each slot: 1/2 and z if the nearest centroid is in it, else zeros

A sum has noise of the variance 5/4 GRAIN^2 / (share mu^2), for the share of the budget that the question may spend.
Each device adds a part of it, so large that the parts of the fewest devices that a sum may come down to, less those
that may collude and know theirs, are the whole.
"""

from __future__ import annotations

import math
import secrets
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from edge_sdk.errors import PrivacyRefused
from edge_sdk.privacy.answers import UPPER, chosen_slots, numbers_of
from edge_sdk.privacy.noise.budget import Guarantee
from edge_sdk.privacy.noise.gaussian import Below, discrete_gaussian
from edge_sdk.privacy.questions import FARTHEST, SUBSTEPS, Integers, Question, places_of

GRAIN = 1 << 16
"""Parts of the length 1, and of a count of two devices, in which answers are given."""
COUNTED = GRAIN // 2
"""A device in the counts of answers: it adds a fourth to the squared length."""
NEAR = 3 * FARTHEST // 8
"""Length, in sixteenths of a step, that codes are cut to about a centre."""
# Of the budget's mu^2, in the order of a clustering's questions.
_MEAN, _SPREAD, _PLACES = Fraction(1, 8), Fraction(3, 8), Fraction(1, 4)
_SQUARED_LENGTH = Fraction(5, 4)


def share(question: Question) -> Fraction:
    """Return the share of the budget's mu^2 that the answer to a question spends: mean, spread, and places twice.

    Raises:
        PrivacyRefused: no answer of this kind has noise.
    """
    match question.kind, question.sizes, bool(question.around):
        case "places", (1,), False:
            return _MEAN
        case "spread", (), True:
            return _SPREAD
        case "places", (_,), True:
            return _PLACES
    raise PrivacyRefused(
        f"A question of the kind {question.kind} with {len(question.sizes)} trials is asked, which has no answer with "
        'noise: at level "local+dp" nothing is sent for it. Tell the operator of the federation.'
    )


def cost(question: Question, guarantee: Guarantee) -> float:
    """Return the mu^2 that the answer to a question spends; raises as `share`."""
    return float(share(question)) * guarantee.mu**2


def part_of_noise(question: Question, guarantee: Guarantee, honest: int) -> int:
    """Return the variance of the noise that each device adds to each number.

    Args:
        question: the question.
        guarantee: the federation's.
        honest: the devices whose parts have to be the whole noise.
    """
    return math.ceil(_SQUARED_LENGTH * GRAIN**2 / (share(question) * Fraction(guarantee.mu) ** 2 * honest))


def length(question: Question) -> float:
    """Return the length 1 of the answers to a question, in public radii."""
    return (NEAR if question.around else FARTHEST) / FARTHEST


def bounded_answer(question: Question, code: bytes) -> Integers:
    """Return a device's answer (question.words,) without noise.

    Raises:
        PromptError: it is no code of level "coarse".
    """
    own = numbers_of(code)
    away = SUBSTEPS * own - (places_of(question.around)[0] if question.around else 0)
    # The squared length 1: integers throughout, as a rounded quotient could be longer.
    whole = max((NEAR if question.around else FARTHEST) ** 2, int((away**2).sum()))
    if question.kind == "spread":
        rows, columns = UPPER
        found = (away[rows] * away[columns]).tolist()
        twice = np.where(rows == columns, 1, 2).tolist()
        products = [_signed_root(one, times, whole**2) for one, times in zip(found, twice, strict=True)]
        return np.array([COUNTED, *products], dtype=np.int64)
    filled = np.zeros(sum(question.slot_counts), np.int64)
    filled[chosen_slots(question, own)] = 1
    place = [_signed_root(value, 1, whole) for value in away.tolist()]
    answer: Integers = np.outer(filled, [COUNTED, *place]).ravel()
    return answer


def noisy_answer(
    question: Question, code: bytes, variance: int, below: Below = secrets.randbelow
) -> npt.NDArray[np.uint32]:
    """Return a device's answer (question.words,), to be masked.

    Args:
        question: a question that `share` lets pass.
        code: the device's prompt code of level "coarse".
        variance: of the noise in each number, see `part_of_noise`.
        below: source of the noise.

    Raises:
        PromptError: it is no code of that level.
    """
    exact = bounded_answer(question, code)
    noise = np.array([discrete_gaussian(variance, below) for _ in range(len(exact))], dtype=np.int64)
    return (exact + noise).astype(np.uint32)


def _signed_root(value: int, times: int, whole: int) -> int:
    """Return value times the square root of times / whole, in `GRAIN`, rounded towards zero."""
    size = math.isqrt(times * (value * GRAIN) ** 2 // whole)
    return -size if value < 0 else size
