"""The exact mean of the products, cut to the wanted rank by SVD, as in FlexLoRA (Bai et al., arXiv 2402.11505).

The best approximation of its rank there is. Its factors are balanced (A = sqrt(S) V^T, B = U sqrt(S)), whatever those
were that the devices trained: `product` differs in that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from coordinator.methods.aggregation.base import Aggregate, Aggregator
from coordinator.methods.aggregation.sums import ProductSum
from edge_sdk.adapter import Adapter, truncate

if TYPE_CHECKING:
    from typing_extensions import Self


class FlexLoRA(Aggregator):
    mixed_ranks: ClassVar[bool] = True
    exact: ClassVar[bool] = True
    linear: ClassVar[bool] = False
    gauge_free: ClassVar[bool] = True

    def __init__(self, rank: int) -> None:
        super().__init__(rank)
        self._sum = ProductSum(rank)

    def _add(self, adapter: Adapter, weight: float, rest: Adapter | None) -> None:
        self._sum.add(adapter, weight)

    def _merge(self, other: Self) -> None:
        self._sum.merge(other._sum)

    def _result(self) -> Aggregate:
        mean, retained = truncate(self._sum.mean(), self.rank)
        return Aggregate(mean, None, retained, self._updates)
