"""What all aggregators have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from edge_sdk.adapter import Adapter, Factors


@dataclass(frozen=True)
class Aggregate:
    """adapter: of at most the wanted rank; retained_energy: the share of the exact mean's squared norm that the
    truncation to this rank kept, None where a method does not compute that mean; updates: how many went in."""

    adapter: Adapter
    retained_energy: float | None
    updates: int


class Aggregator(ABC):
    """Aggregates adapters to one of `rank`.

    mixed_ranks: whether devices may train other ranks than `rank`; if not, they are refused when they join.
    """

    mixed_ranks: ClassVar[bool]

    def __init__(self, rank: int) -> None:
        self.rank = rank

    @abstractmethod
    def add(self, adapter: Adapter, weight: float) -> None:
        """Take in one update; `weight` is positive (the number of pictures that it was trained on)."""

    @abstractmethod
    def result(self) -> Aggregate:
        """The adapter of all updates so far; ValueError if there was none."""


class FactorMean:
    """The weighted mean of one factor per layer, each row (or column) over the updates that have it."""

    def __init__(self, factor: Callable[[Factors], npt.NDArray[np.floating]]) -> None:
        self._factor = factor
        self._sums: dict[str, npt.NDArray[np.float64]] = {}
        self._weights: dict[str, npt.NDArray[np.float64]] = {}

    def add(self, adapter: Adapter, weight: float) -> None:
        for name, factors in adapter.layers.items():
            rows = self._factor(factors)
            if name not in self._sums:
                self._sums[name] = np.zeros((0, rows.shape[1]))
                self._weights[name] = np.zeros(0)
            if (missing := len(rows) - len(self._sums[name])) > 0:
                self._sums[name] = np.pad(self._sums[name], ((0, missing), (0, 0)))
                self._weights[name] = np.pad(self._weights[name], (0, missing))
            self._sums[name][: len(rows)] += weight * rows
            self._weights[name][: len(rows)] += weight

    def result(self) -> dict[str, npt.NDArray[np.float64]]:
        """Layer -> (rank, features)."""
        return {name: total / self._weights[name][:, None] for name, total in self._sums.items()}
