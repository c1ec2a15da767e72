"""Aggregators that begin with the exact weighted mean of the products B A, whatever they make of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.methods.aggregation.base import Aggregator, AggregatorSettings
from coordinator.methods.aggregation.sums import ProductSum
from edge_sdk.adapter import Adapter

if TYPE_CHECKING:
    from typing_extensions import Self


class ProductMean(Aggregator):
    """Updates are added up as products; a subclass makes its result of `self._sum.mean()`."""

    def __init__(self, rank: int, settings: AggregatorSettings | None = None) -> None:
        super().__init__(rank, settings)
        self._sum = ProductSum(rank)

    def _add(self, adapter: Adapter, weight: float, rest: Adapter | None) -> None:
        self._sum.add(adapter, weight)

    def _merge(self, other: Self) -> None:
        self._sum.merge(other._sum)
