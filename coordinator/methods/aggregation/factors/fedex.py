"""FedEx-LoRA (Singhal et al., arXiv 2410.09432): factors averaged apart, and the residual folded into the base model.

    start = (mean B)(mean A),    folded = mean(B A) - (mean B)(mean A)

Exact. The residual has up to (n - 1) r directions for n devices and is sent to the devices along with the means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from coordinator.methods.aggregation.base import Aggregate, AggregatorSettings
from coordinator.methods.aggregation.factors.mean import FactorMean
from coordinator.methods.aggregation.sums import ProductSum
from edge_sdk.adapter import Adapter, concatenate, norm, truncate

if TYPE_CHECKING:
    from typing_extensions import Self


class FedEx(FactorMean):
    """FedEx-LoRA: averages A and B apart and folds the residual, so that the sum is exact.

    start = (mean B)(mean A), folded = mean(B A) - start. All devices train one rank. Source: Singhal et al., arXiv
    2410.09432.
    """

    exact: ClassVar[bool] = True
    linear: ClassVar[bool] = False
    gauge_free: ClassVar[bool] = True
    folds: ClassVar[bool] = True

    def __init__(self, rank: int, settings: AggregatorSettings | None = None) -> None:
        super().__init__(rank, settings)
        self._sum = ProductSum(rank)

    def _add(self, adapter: Adapter, weight: float, rest: Adapter | None) -> None:
        super()._add(adapter, weight, rest)
        self._sum.add(adapter, weight)

    def _merge(self, other: Self) -> None:
        super()._merge(other)
        self._sum.merge(other._sum)

    def _result(self) -> Aggregate:
        start, exact = self._mean(), self._sum.mean()
        residual, _ = truncate(concatenate([(exact, 1.0), (start, -1.0)]))
        # One device, or devices that agree: the residual is rounding.
        negligible = norm(residual) <= 1e-9 * norm(exact)
        return Aggregate(start, None if negligible else residual, None, self._updates)
