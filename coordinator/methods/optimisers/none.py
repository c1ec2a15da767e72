"""No server optimiser: step = change. Devices continue from the mean, as in FedAvg (arXiv 1602.05629)."""

from __future__ import annotations

from typing import ClassVar

from coordinator.methods.optimisers.base import Matrices, ServerOptimiser


class NoOptimiser(ServerOptimiser, frozen=True, kw_only=True):
    """No server optimiser: step = change, as in FedAvg (McMahan et al., arXiv 1602.05629)."""

    linear: ClassVar[bool] = True
    method: str = "none"

    def advance(self, change: Matrices, moments: Matrices) -> tuple[Matrices, Matrices]:
        return change, {}
