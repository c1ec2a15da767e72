"""Fed-SB (Singhal et al., arXiv 2502.15436): frozen factors with a small trained core between them.

    dW = Q_B K Q_A,    Q_B (out, r) and Q_A (r, in) orthonormal and frozen, K (r, r) trained and sent

The frozen factors come from the first round, in which devices train both factors: they are the leading singular
directions of the exact mean of the products (the paper takes them from the first gradients). Afterwards a device sends
r * r numbers a layer, and the mean of the cores is the exact mean of the products.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from coordinator.methods.aggregation.base import Aggregate, AggregatorSettings
from coordinator.methods.aggregation.products.mean import ProductMean
from edge_sdk.adapter import Share, orthonormal, truncate


class FedSBSettings(AggregatorSettings, frozen=True, kw_only=True):
    """Settings of Fed-SB: those that all methods have."""

    without: ClassVar[Mapping[str, str]] = {
        "masked": "Its frozen factors come from the exact mean of products in the first round, and no sum of factors "
        "gives that."
    }


class FedSB(ProductMean):
    """Fed-SB: mean of the cores K in dW = Q_B K Q_A, with frozen Q_B and Q_A from the first round.

    Exact; all devices train one rank. Source: Singhal et al., arXiv 2502.15436.
    """

    Settings: ClassVar[type[AggregatorSettings]] = FedSBSettings
    mixed_ranks: ClassVar[bool] = False
    exact: ClassVar[bool] = True
    linear: ClassVar[bool] = False  # later rounds are linear; the first one averages products
    gauge_free: ClassVar[bool] = True

    @classmethod
    def share(cls, turn: int) -> Share:
        return Share.CORE if turn else Share.BOTH

    def _result(self) -> Aggregate:
        mean, retained = truncate(self._sum.mean(), self.rank)
        return Aggregate(orthonormal(mean), None, retained, self._updates)
