"""Server optimisers: a step from the last adapter towards a round's mean, before devices continue from it.

A server optimiser treats the change from the round's start to the mean of its updates as a gradient (Reddi et al.,
"Adaptive Federated Optimization", arXiv 2003.00295). A new one is one file and one line here, or an entry point of
another package.
"""

from __future__ import annotations

from coordinator.methods import Registry, not_subclass_of
from coordinator.methods.optimisers.adam import Adam
from coordinator.methods.optimisers.base import Matrices, ServerOptimiser, step
from coordinator.methods.optimisers.momentum import Momentum
from coordinator.methods.optimisers.none import NoOptimiser

_BUILT_IN: dict[str, type[ServerOptimiser]] = {"none": NoOptimiser, "momentum": Momentum, "adam": Adam}
OPTIMISERS: Registry[type[ServerOptimiser]] = Registry(
    "impasto.optimisers", _BUILT_IN, not_subclass_of(ServerOptimiser)
)

__all__ = ["OPTIMISERS", "Adam", "Matrices", "Momentum", "NoOptimiser", "ServerOptimiser", "step"]
