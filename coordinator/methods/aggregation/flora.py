"""FLoRA (Wang et al., arXiv 2409.05976): updates stacked without loss and folded into the base; training starts afresh.

Exact for any ranks. The price: downloads grow with the number of devices and of rounds (up to full rank), and every
round starts from a new initialisation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from coordinator.methods.aggregation.base import Aggregate, Aggregator
from coordinator.methods.aggregation.sums import ProductSum
from edge_sdk.adapter import Adapter

if TYPE_CHECKING:
    from typing_extensions import Self


class FLoRA(Aggregator):
    """FLoRA: folded = sum_i w_i B_i A_i / sum_i w_i, by stacking; start = a fresh initialisation.

    Exact, mixed ranks. Source: Wang et al., arXiv 2409.05976.
    """

    mixed_ranks: ClassVar[bool] = True
    exact: ClassVar[bool] = True
    linear: ClassVar[bool] = False
    gauge_free: ClassVar[bool] = True
    folds: ClassVar[bool] = True

    def __init__(self, rank: int) -> None:
        super().__init__(rank)
        self._sum = ProductSum(rank)

    def _add(self, adapter: Adapter, weight: float, rest: Adapter | None) -> None:
        self._sum.add(adapter, weight)

    def _merge(self, other: Self) -> None:
        self._sum.merge(other._sum)

    def _result(self) -> Aggregate:
        return Aggregate(None, self._sum.mean(), None, self._updates)
