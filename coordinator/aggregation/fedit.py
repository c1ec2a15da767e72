"""Factors averaged apart, as in FedIT (Zhang et al., arXiv 2305.05644): the usual baseline.

The product of the means misses sum_i w_i (B_i - mean B)(A_i - mean A), the factors' cross-covariance; it is exact where
all devices share one factor.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from coordinator.aggregation.base import Aggregate, Aggregator, FactorMean
from edge_sdk.adapter import Adapter, Factors


class FedIT(Aggregator):
    mixed_ranks: ClassVar[bool] = False

    def __init__(self, rank: int) -> None:
        super().__init__(rank)
        self._a = FactorMean(lambda factors: factors.a)
        self._b = FactorMean(lambda factors: factors.b.T)
        self._base_id: str | None = None
        self._updates = 0

    def add(self, adapter: Adapter, weight: float) -> None:
        self._a.add(adapter, weight)
        self._b.add(adapter, weight)
        self._base_id = adapter.base_id or self._base_id
        self._updates += 1

    def result(self) -> Aggregate:
        if not self._updates:
            raise ValueError("Nothing to aggregate: add an update first.")
        b = self._b.result()
        layers = {
            name: Factors(a.astype(np.float32), np.ascontiguousarray(b[name].T, dtype=np.float32))
            for name, a in self._a.result().items()
        }
        return Aggregate(Adapter(layers, self._base_id), None, self._updates)
