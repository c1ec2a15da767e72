"""Weighted means of the factors A and B apart, the base of the aggregators that average factors."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from coordinator.methods.aggregation.base import Aggregate, Aggregator, AggregatorSettings
from coordinator.methods.aggregation.sums import FactorSum, paired
from edge_sdk.adapter import Adapter

if TYPE_CHECKING:
    from typing_extensions import Self


class FactorMean(Aggregator):
    """start = (mean B)(mean A), with weighted means of the factors. All devices train one rank."""

    mixed_ranks: ClassVar[bool] = False
    exact: ClassVar[bool] = False
    linear: ClassVar[bool] = True

    def __init__(self, rank: int, settings: AggregatorSettings | None = None) -> None:
        super().__init__(rank, settings)
        self._a = FactorSum(lambda factors: factors.a)
        self._b = FactorSum(lambda factors: factors.b.T)
        self._base_id: str | None = None

    def _add(self, adapter: Adapter, weight: float, rest: Adapter | None) -> None:
        self._a.add(adapter, weight)
        self._b.add(adapter, weight)
        self._base_id = adapter.base_id or self._base_id

    def _merge(self, other: Self) -> None:
        self._a.merge(other._a)
        self._b.merge(other._b)
        self._base_id = other._base_id or self._base_id

    def _result(self) -> Aggregate:
        return Aggregate(self._mean(), None, None, self._updates)

    def _mean(self) -> Adapter:
        return paired(self._a.mean(), self._b.mean(), self._a.kernels, self._base_id)
