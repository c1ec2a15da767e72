"""No server optimiser: step = change. Devices continue from the mean, as in FedAvg (arXiv 1602.05629)."""

from __future__ import annotations

from coordinator.methods.optimisers.base import Matrices, Pace, ServerOptimiser


def _advance(change: Matrices, moments: Matrices, pace: Pace) -> tuple[Matrices, Matrices]:
    return change, {}


NONE = ServerOptimiser(_advance, learning_rate=1.0, linear=True)
