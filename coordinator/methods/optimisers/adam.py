"""Server Adam, as in FedAdam (Reddi et al., arXiv 2003.00295).

    m <- b1 m + (1 - b1) change,    v <- b2 v + (1 - b2) change^2,    step = learning_rate m / (sqrt(v) + epsilon)

b1 is the federation's momentum, b2 = 0.99, epsilon = 1e-3. As in the paper, the bias of the first steps is not
corrected; v starts at epsilon^2, its smallest sensible value.
"""

from __future__ import annotations

import numpy as np

from coordinator.methods.optimisers.base import Matrices, Pace, ServerOptimiser

_B2 = 0.99
_EPSILON = 1e-3


def _advance(change: Matrices, moments: Matrices, pace: Pace) -> tuple[Matrices, Matrices]:
    b1 = pace.momentum
    first = {f"{name}/m": b1 * moments.get(f"{name}/m", 0.0) + (1 - b1) * d for name, d in change.items()}
    second = {f"{name}/v": _B2 * moments.get(f"{name}/v", _EPSILON**2) + (1 - _B2) * d**2 for name, d in change.items()}
    stride = {
        name: pace.learning_rate * first[f"{name}/m"] / (np.sqrt(second[f"{name}/v"]) + _EPSILON) for name in change
    }
    return stride, first | second


ADAM = ServerOptimiser(_advance, learning_rate=0.01, momentum=0.9)
