"""Server momentum, as in FedAvgM (Hsu et al., arXiv 1909.06335).

    v <- momentum v + change,    step = learning_rate v

A direction on which the rounds agree is followed 1 / (1 - momentum) times as far. The optimiser is linear, so it works
on products where both factors are trained. (On factors, with only a rotation removed, the held-out loss rose from round
to round.)
"""

from __future__ import annotations

from coordinator.methods.optimisers.base import Matrices, Pace, ServerOptimiser


def _advance(change: Matrices, moments: Matrices, pace: Pace) -> tuple[Matrices, Matrices]:
    velocity = {f"{name}/v": pace.momentum * moments.get(f"{name}/v", 0.0) + d for name, d in change.items()}
    return {name: pace.learning_rate * velocity[f"{name}/v"] for name in change}, velocity


MOMENTUM = ServerOptimiser(_advance, learning_rate=1.0, momentum=0.5, linear=True)
