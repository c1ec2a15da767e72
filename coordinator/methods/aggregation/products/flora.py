"""FLoRA (Wang et al., arXiv 2409.05976): updates stacked without loss and folded into the base; training starts afresh.

Exact for any ranks. The price: downloads grow with the number of devices and of rounds (up to full rank), and every
round starts from a new initialisation.
"""

from __future__ import annotations

from typing import ClassVar

from coordinator.methods.aggregation.base import Aggregate
from coordinator.methods.aggregation.products.mean import ProductMean


class FLoRA(ProductMean):
    """FLoRA: folded = sum_i w_i B_i A_i / sum_i w_i, by stacking; start = a fresh initialisation.

    Exact, mixed ranks. Source: Wang et al., arXiv 2409.05976.
    """

    mixed_ranks: ClassVar[bool] = True
    exact: ClassVar[bool] = True
    linear: ClassVar[bool] = False
    gauge_free: ClassVar[bool] = True
    folds: ClassVar[bool] = True

    def _result(self) -> Aggregate:
        return Aggregate(None, self._sum.mean(), None, self._updates)
