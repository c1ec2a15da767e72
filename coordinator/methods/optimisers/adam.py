"""Server Adam, as in FedAdam (Reddi et al., arXiv 2003.00295).

    m <- b1 m + (1 - b1) change,    v <- b2 v + (1 - b2) change^2,    step = learning_rate m / (sqrt(v) + epsilon)

b1 is the key `momentum`, b2 = 0.99, epsilon = 1e-3. As in the paper, the bias of the first steps is not corrected; v
starts at epsilon^2, its smallest sensible value.
"""

from __future__ import annotations

import numpy as np

from coordinator.methods.optimisers.base import Inertia, Matrices, Pace, ServerOptimiser

_B2 = 0.99
_EPSILON = 1e-3


class Adam(ServerOptimiser, frozen=True, kw_only=True):
    """Server Adam: step = learning_rate m / (sqrt(v) + 1e-3). Source: Reddi et al., arXiv 2003.00295.

    Attributes:
        learning_rate: factor of a step, in (0, 100].
        momentum: share, in [0, 1), of the first moment m that stays.
    """

    method: str = "adam"
    learning_rate: Pace = 0.01
    momentum: Inertia = 0.9

    def advance(self, change: Matrices, moments: Matrices) -> tuple[Matrices, Matrices]:
        b1 = self.momentum
        first = {f"{name}/m": b1 * moments.get(f"{name}/m", 0.0) + (1 - b1) * d for name, d in change.items()}
        second = {
            f"{name}/v": _B2 * moments.get(f"{name}/v", _EPSILON**2) + (1 - _B2) * d**2 for name, d in change.items()
        }
        stride = {
            name: self.learning_rate * first[f"{name}/m"] / (np.sqrt(second[f"{name}/v"]) + _EPSILON) for name in change
        }
        return stride, first | second
