"""FlexLoRA (Bai et al., arXiv 2402.11505): the exact mean of the products, truncated to the rank by SVD.

It is the best approximation at its rank. Its factors are balanced (A = sqrt(S) V^T, B = U sqrt(S)), whatever the gauge
of the devices' factors; `product` differs in that.
"""

from __future__ import annotations

from typing import ClassVar

from coordinator.methods.aggregation.base import Aggregate
from coordinator.methods.aggregation.products.mean import ProductMean
from edge_sdk.adapter import truncate


class FlexLoRA(ProductMean):
    """FlexLoRA: start = svd_r(sum_i w_i B_i A_i / sum_i w_i), with balanced factors.

    Exact up to the truncation, mixed ranks. Source: Bai et al., arXiv 2402.11505.
    """

    mixed_ranks: ClassVar[bool] = True
    exact: ClassVar[bool] = True
    linear: ClassVar[bool] = False
    gauge_free: ClassVar[bool] = True

    def _result(self) -> Aggregate:
        mean, retained = truncate(self._sum.mean(), self.rank)
        return Aggregate(mean, None, retained, self._updates)
