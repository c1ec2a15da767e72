"""RoLoRA (Chen et al., arXiv 2502.01755): B and A are trained in turns.

In every round one factor is the same on all devices, so that the mean of the other gives the exact mean of the
products. B goes first: it starts at zero, and A has no gradient before B has moved. All devices train one rank, because
a device of smaller rank would start from another truncation of both factors.
"""

from __future__ import annotations

from typing import ClassVar

from coordinator.methods.aggregation.base import AggregatorSettings, MaskableSettings
from coordinator.methods.aggregation.factors.mean import FactorMean
from edge_sdk.adapter import Share


class RoLoRA(FactorMean):
    """RoLoRA: start = (mean B) A in even turns (from 0), B (mean A) in odd ones.

    Exact, linear; all devices train one rank. Updates may be summed under masks. Source: Chen et al., arXiv 2502.01755.
    """

    Settings: ClassVar[type[AggregatorSettings]] = MaskableSettings
    exact: ClassVar[bool] = True

    @classmethod
    def share(cls, turn: int) -> Share:
        return Share.A if turn % 2 else Share.B
