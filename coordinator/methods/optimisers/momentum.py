"""Server momentum, as in FedAvgM (Hsu et al., arXiv 1909.06335).

    v <- momentum v + change,    step = learning_rate v

A direction on which the rounds agree is followed 1 / (1 - momentum) times as far. The optimiser is linear, so it works
on products where both factors are trained. (On factors, with only a rotation removed, the held-out loss rose from round
to round.)
"""

from __future__ import annotations

from typing import ClassVar

from coordinator.methods.optimisers.base import Inertia, Matrices, Pace, ServerOptimiser


class Momentum(ServerOptimiser, frozen=True, kw_only=True):
    """Server momentum: v <- momentum v + change, step = learning_rate v. Source: Hsu et al., arXiv 1909.06335.

    Attributes:
        learning_rate: factor of a step, in (0, 100].
        momentum: share, in [0, 1), of the last direction that stays.
    """

    linear: ClassVar[bool] = True
    method: str = "momentum"
    learning_rate: Pace = 1.0
    momentum: Inertia = 0.5

    def advance(self, change: Matrices, moments: Matrices) -> tuple[Matrices, Matrices]:
        velocity = {f"{name}/v": self.momentum * moments.get(f"{name}/v", 0.0) + d for name, d in change.items()}
        return {name: self.learning_rate * velocity[f"{name}/v"] for name in change}, velocity
