"""Updates stacked without any loss and folded into the base; training starts afresh, as in FLoRA (Wang et al., arXiv
2409.05976).

Exact for any ranks. The price: what devices download grows with the number of devices and of rounds (up to full rank),
and every round starts from a new initialisation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from coordinator.methods.aggregation.base import Aggregate, Aggregator
from coordinator.methods.aggregation.sums import ProductSum
from edge_sdk.adapter import Adapter

if TYPE_CHECKING:
    from typing_extensions import Self


class FLoRA(Aggregator):
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
