"""What the coordinator does with a round's mean before devices go on from it.

A server optimiser takes the change from the adapter that the round began with to the mean of its updates for a gradient
(Reddi et al., "Adaptive Federated Optimization", arXiv 2003.00295). A new one is one file and one line here.
"""

from __future__ import annotations

from coordinator.optimisers.adam import ADAM
from coordinator.optimisers.base import Matrices, Pace, ServerOptimiser, step
from coordinator.optimisers.momentum import MOMENTUM
from coordinator.optimisers.none import NONE

OPTIMISERS: dict[str, ServerOptimiser] = {"none": NONE, "momentum": MOMENTUM, "adam": ADAM}

__all__ = ["OPTIMISERS", "Matrices", "Pace", "ServerOptimiser", "step"]
