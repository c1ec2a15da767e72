"""FlexLoRA (Bai et al., arXiv 2402.11505): the exact mean of the products, truncated to the rank by SVD.

It is the best approximation at its rank. Its factors are balanced (A = sqrt(S) V^T, B = U sqrt(S)), whatever the gauge
of the devices' factors; `product` differs in that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from coordinator.methods.aggregation.base import Aggregate, Aggregator
from coordinator.methods.aggregation.sums import ProductSum
from edge_sdk.adapter import Adapter, truncate

if TYPE_CHECKING:
    from typing_extensions import Self


class FlexLoRA(Aggregator):
    """FlexLoRA: start = svd_r(sum_i w_i B_i A_i / sum_i w_i), with balanced factors.

    Exact up to the truncation, mixed ranks. Source: Bai et al., arXiv 2402.11505.
    """

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
