"""B and A are trained in turns, as in RoLoRA (Chen et al., arXiv 2502.01755).

In every round one factor is the same on all devices, so that the mean of the other is the exact mean of the products.
B goes first: it starts at zero, and A has no gradient before B has moved. All devices train the same rank, because a
smaller one would start from another truncation of both factors.
"""

from __future__ import annotations

from typing import ClassVar

from coordinator.methods.aggregation.fedit import FedIT
from edge_sdk.adapter import Share


class RoLoRA(FedIT):
    exact: ClassVar[bool] = True

    @classmethod
    def share(cls, turn: int) -> Share:
        return Share.A if turn % 2 else Share.B
