"""The base class of all filters, and their verdict."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from coordinator.methods import MethodSettings

Vector: TypeAlias = npt.NDArray[np.float64]
Gram: TypeAlias = npt.NDArray[np.float64]
Liars: TypeAlias = Annotated[float, Meta(ge=0, lt=0.5)]
"""Share of the devices that a filter assumes to lie."""


@dataclass(frozen=True)
class Belief:
    """Verdict of a filter on n updates.

    Attributes:
        weights: (n,) factors for the updates' weights, at least 0 and not all 0.
        shrink: (n,) share, in [0, 1], of each change to keep.
        breakdown: number of lying devices among these n that the filter withstands with its settings. It is at most
            floor((n - 1) / 2), and less if some devices weigh more than others or the filter drops fewer.
    """

    weights: Vector
    shrink: Vector
    breakdown: int


class Filter(MethodSettings, frozen=True, kw_only=True):
    """Judges the updates of a group by their changes. Its fields are the keys of the table [filter]."""

    @abstractmethod
    def __call__(self, products: Gram, weights: Vector) -> Belief:
        """Return the verdict on n updates.

        Args:
            products: (n, n) inner products of the changes.
            weights: (n,) weights of the updates, positive.
        """


def believe(weights: Vector, breakdown: int) -> Belief:
    """Return a verdict that keeps every change whole."""
    return Belief(weights, np.ones(len(weights)), breakdown)


def count_liars(n: int, share: float) -> int:
    """Return f = floor(share * n), the number of devices that are assumed to lie."""
    return int(np.floor(share * n + 1e-9))  # 0.29 * 100 is 28.999999999999996


def most_liars(weights: Vector) -> int:
    """Return the largest number of devices, heaviest first, with less than half of the weight.

    It is floor((n - 1) / 2) for equal weights.
    """
    heaviest = np.cumsum(np.sort(weights)[::-1])
    return int(np.count_nonzero(2 * heaviest < heaviest[-1] * (1 - 1e-12)))
