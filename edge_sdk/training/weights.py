"""Weights of the adapters that a device draws with, chosen by the loss on pictures that it did not train on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

GRID = (1.0, 0.75, 0.5, 0.0)
_SWEEPS = 2


def choose_weights(
    names: Sequence[str],
    loss: Callable[[Mapping[str, float]], float],
    grid: Sequence[float] = GRID,
    *,
    seconds: float = math.inf,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, float]:
    """Weights of least loss, found by coordinate descent: one adapter after the other, all others held.

    It begins with all weights at the first of the grid, ends after two sweeps, or one that changes nothing, and asks
    for no loss twice: at most 1 + 2 * len(names) * (len(grid) - 1) losses. A weight changes only for a lower loss.

    Args:
        names: the adapters, in the order in which they are tried.
        loss: mean loss with these weights, on held-out pictures at fixed noise.
        grid: the weights to choose from, the preferred one first.
        seconds: time that losses may take; weights that there is no time to try are not chosen.
        clock: seconds since any moment.
    """
    known: dict[tuple[float, ...], float] = {}
    began = clock()

    def measured(weights: Mapping[str, float]) -> float:
        key = tuple(weights[name] for name in names)
        if key not in known:
            spent = clock() - began
            if known and spent + spent / len(known) > seconds:
                return math.inf
            known[key] = loss(weights)
        return known[key]

    chosen = dict.fromkeys(names, grid[0])
    for _ in range(_SWEEPS):
        before = dict(chosen)
        for name in names:
            for weight in grid:
                other = {**chosen, name: weight}
                if measured(other) < measured(chosen):
                    chosen = other
        if chosen == before:
            break
    return chosen
