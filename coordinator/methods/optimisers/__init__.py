"""Server optimisers: a step from the last adapter towards a round's mean, before devices continue from it.

A server optimiser treats the change from the round's start to the mean of its updates as a gradient (Reddi et al.,
"Adaptive Federated Optimization", arXiv 2003.00295). A new one is one file and one line here, or an entry point of
another package.
"""

from __future__ import annotations

from coordinator.methods import Registry, not_of
from coordinator.methods.optimisers.adam import ADAM
from coordinator.methods.optimisers.base import Matrices, Pace, ServerOptimiser, step
from coordinator.methods.optimisers.momentum import MOMENTUM
from coordinator.methods.optimisers.none import NONE

_BUILT_IN: dict[str, ServerOptimiser] = {"none": NONE, "momentum": MOMENTUM, "adam": ADAM}
OPTIMISERS: Registry[ServerOptimiser] = Registry("impasto.optimisers", _BUILT_IN, not_of(ServerOptimiser))

__all__ = ["OPTIMISERS", "Matrices", "Pace", "ServerOptimiser", "step"]
