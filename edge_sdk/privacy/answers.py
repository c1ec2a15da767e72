"""A device's answers to questions of level "local": vectors of integers that leave it under masks only.

    spread      1 | the code | the products of each two of its numbers, i <= j, row by row
    counts      for each slot of each trial: 1 if the nearest centroid is in it, else 0 | for each trial: the silhouette
    places      for each slot of each trial: 1 and the code if the nearest centroid is in it, else zeros

The code is that of level "coarse", clipped to the public radius and rounded: whatever sums tell about a device, it is
no more than that code. The silhouette (simplified: Vendramin et al. 2010) is 1 - a / b in 1,024 parts, for the
distances a and b of the nearest centroid and of the nearest one in another slot. Integers only: the same on every
machine. Words are two's complement; a sum of 1,024 devices fits into one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_sdk.errors import PromptError
from edge_sdk.privacy.basis import DIMENSIONS
from edge_sdk.privacy.coarse import STEPS
from edge_sdk.privacy.questions import MOST_IN_TRIAL, SUBSTEPS, Integers, Question

SILHOUETTE = 1024
"""Parts of a silhouette of 1."""
UPPER = np.triu_indices(DIMENSIONS)
"""Rows and columns of the products in a spread, in their order."""
_NOWHERE = 1 << 40  # farther than any centroid


def answer(question: Question, code: bytes) -> npt.NDArray[np.uint32]:
    """Return a device's answer (question.words,), to be masked.

    Args:
        question: a question that `check_question` and `check_follows` let pass.
        code: the device's prompt code of level "coarse", the same in the whole clustering.

    Raises:
        PromptError: it is no code of that level.
    """
    own = numbers_of(code)
    if question.kind == "spread":
        return np.concatenate([[1], own, np.outer(own, own)[UPPER]]).astype(np.uint32)
    chosen, silhouettes = _choices(question, own)
    filled = np.zeros(sum(question.slot_counts), np.int64)
    filled[chosen] = 1
    if question.kind == "counts":
        return np.concatenate([filled, silhouettes]).astype(np.uint32)
    return np.outer(filled, np.concatenate([[1], own])).ravel().astype(np.uint32)


def nearest_centroid(code: bytes, centroids: Integers) -> int:
    """Return the place of the centroid that is nearest to a code, of equally near ones the first.

    So every device chooses its cluster among the published centroids, newcomers too.

    Args:
        code: a prompt code of level "coarse".
        centroids: (k, DIMENSIONS) in sixteenths of a step.

    Raises:
        PromptError: it is no code of that level.
    """
    return int(_squared_distances(numbers_of(code), centroids).argmin())


def chosen_slots(question: Question, own: Integers) -> Integers:
    """Return the slot of the centroid of each trial that is nearest to a code's numbers, counted over all trials."""
    return _choices(question, own)[0]


def numbers_of(code: bytes) -> Integers:
    """Return the numbers (DIMENSIONS,) of a code, in steps.

    Raises:
        PromptError: it is no code of level "coarse".
    """
    found = np.frombuffer(code, np.int8).astype(np.int64)
    if len(found) != DIMENSIONS or np.abs(found).max() > STEPS:
        raise PromptError(
            f'A code of level "coarse" has {DIMENSIONS} numbers of at most {STEPS}; this one has {len(found)}, of at '
            f"most {np.abs(found).max(initial=0)}. Make the device's code again."
        )
    return found


def _squared_distances(own: Integers, centroids: Integers) -> Integers:
    distances: Integers = ((SUBSTEPS * own - centroids) ** 2).sum(axis=1)
    return distances


def _choices(question: Question, own: Integers) -> tuple[Integers, Integers]:
    """Return the slot of the nearest centroid of each trial, counted over all trials, and each trial's silhouette."""
    centroids, slots, firsts = question.layout
    sizes = np.array(question.sizes)
    distances = _squared_distances(own, centroids)
    places = np.arange(len(centroids)) - np.repeat(firsts, sizes)
    nearest = np.minimum.reduceat(distances * MOST_IN_TRIAL + places, firsts)
    near, chosen = nearest // MOST_IN_TRIAL, slots[firsts + nearest % MOST_IN_TRIAL]
    others = np.where(slots == np.repeat(chosen, sizes), _NOWHERE, distances)
    far = np.minimum.reduceat(others, firsts)
    ratio = near * SILHOUETTE**2 // np.maximum(far, 1)
    # The square root of so small an integer, rounded down, is exact.
    clear = SILHOUETTE - np.sqrt(ratio.astype(np.float64)).astype(np.int64)
    return chosen, np.where((far == 0) | (far == _NOWHERE), 0, clear)
