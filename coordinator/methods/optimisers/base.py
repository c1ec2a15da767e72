"""What all server optimisers have in common, and how a step with one is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edge_sdk.adapter import MAX_RANK, Adapter, Factors, Share, align, svd, truncate

Matrix: TypeAlias = npt.NDArray[np.float64]
Matrices: TypeAlias = dict[str, Matrix]
"""Of each factor or product a matrix that has the rank as its first axis, by name."""


@dataclass(frozen=True)
class Pace:
    """learning_rate: how far a step goes; momentum: the share of the last direction that stays, in [0, 1)."""

    learning_rate: float
    momentum: float


Advance: TypeAlias = Callable[[Matrices, Matrices, Pace], tuple[Matrices, Matrices]]
"""(what the round changed, moments, pace) -> (the step to take, new moments). Moments that are missing are new."""


@dataclass(frozen=True)
class ServerOptimiser:
    """
    Attributes:
        advance: one step.
        learning_rate, momentum: its own, for a federation that names none.
        linear: whether steps and moments are sums of what changed and of moments, each times a number. Such an
            optimiser is given products where both factors are trained; any other is always given factors.
    """

    advance: Advance
    learning_rate: float
    momentum: float = 0.0
    linear: bool = False


def step(
    optimiser: ServerOptimiser,
    start: Adapter,
    mean: Adapter,
    moments: Mapping[str, npt.NDArray[np.floating]],
    pace: Pace,
    share: Share,
) -> tuple[Adapter, Matrices]:
    """Where devices go on instead of at `mean`, and what to remember for the next step.

    Args:
        start: what the round began with.
        moments: of the last step; what does not fit any more is forgotten.
    """
    if optimiser.linear and share is Share.BOTH:
        return _by_products(optimiser, start, mean, moments, pace)
    return _by_factors(optimiser, start, mean, moments, pace, share)


def _by_products(
    optimiser: ServerOptimiser,
    start: Adapter,
    mean: Adapter,
    moments: Mapping[str, npt.NDArray[np.floating]],
    pace: Pace,
) -> tuple[Adapter, Matrices]:
    """A step on dW = B A, the same in every gauge (B G^-1)(G A).

    Between rounds the gauge changes by more than a rotation: devices of smaller ranks train other factors, and clusters
    that teach each other are refactored. On factors, momentum would add all of that up and diverge.

    A layer's products are written with one A in common, orthonormal rows that span all of theirs, so that their B are
    linear. Where devices go on has the rank of the mean, and its gauge and scale; moments are kept at twice that rank,
    which holds a whole change, or at what room the largest rank of an adapter leaves.
    """
    before: Matrices = {}
    change: Matrices = {}
    known: Matrices = {}
    common: dict[str, Matrix] = {}
    for layer, goal in mean.layers.items():
        mine = {
            key.removesuffix(".b"): Factors(moments[f"{key.removesuffix('.b')}.a"], np.ascontiguousarray(b.T))
            for key, b in moments.items()
            if key.startswith(f"{layer}/") and key.endswith(".b")
        }
        products = [start.layers[layer], goal, *mine.values()]
        q, _ = np.linalg.qr(np.vstack([factors.a for factors in products]).T.astype(np.float64))
        common[layer] = np.ascontiguousarray(q.T)
        before[layer], after, *others = ((q.T @ factors.a.T) @ factors.b.T for factors in products)
        change[layer] = after - before[layer]
        known |= dict(zip(mine, others, strict=True))
    stride, fresh = optimiser.advance(change, known, pace)
    layers = {
        layer: Factors(common[layer], (before[layer] + stride[layer]).T, goal.kernel)
        for layer, goal in mean.layers.items()
    }
    moved, _ = truncate(Adapter(layers, mean.base_id), mean.rank)
    remembered: Matrices = {}
    for name, b in fresh.items():
        layer = name.partition("/")[0]
        kept = truncate(Adapter({layer: Factors(common[layer], b.T)}), _moment_rank(mean.rank))[0].layers[layer]
        remembered |= {f"{name}.a": kept.a.astype(np.float64), f"{name}.b": kept.b.T.astype(np.float64)}
    return align(moved, mean), remembered


def _by_factors(
    optimiser: ServerOptimiser,
    start: Adapter,
    mean: Adapter,
    moments: Mapping[str, npt.NDArray[np.floating]],
    pace: Pace,
    share: Share,
) -> tuple[Adapter, Matrices]:
    """A step on A and B, like those of the devices' own optimisers.

    Where both were trained, the factors of the mean are rotated first, so that they are as near as possible to those of
    `start`: a rotation changes no product and must not look like a change, such as the signs that an SVD picks.
    """
    before, after = _matrices(start), _matrices(mean)
    rank = {name: max(len(matrix), len(before[name])) for name, matrix in after.items()}
    padded = {name: _padded(before[name], rank[name]) for name in after}
    goal = {name: _padded(matrix, rank[name]) for name, matrix in after.items()}
    if share is Share.BOTH:
        for layer in mean.layers:
            rotation = _rotation([(goal[f"{layer}.{k}"], padded[f"{layer}.{k}"]) for k in "ab"])
            goal |= {f"{layer}.{k}": rotation @ goal[f"{layer}.{k}"] for k in "ab"}
    change = {name: matrix - padded[name] for name, matrix in goal.items()}
    known = {
        name: matrix.astype(np.float64)
        for name, matrix in moments.items()
        if (factor := name.partition("/")[0]) in change and matrix.shape == change[factor].shape
    }
    stride, remembered = optimiser.advance(change, known, pace)
    moved = {name: padded[name] + matrix for name, matrix in stride.items()}
    layers = {
        name: Factors(moved[f"{name}.a"], np.ascontiguousarray(moved[f"{name}.b"].T), factors.kernel)
        for name, factors in mean.layers.items()
    }
    return Adapter(layers, mean.base_id), remembered


def _moment_rank(rank: int) -> int:
    return max(1, min(2 * rank, MAX_RANK - 2 * rank))


def _matrices(adapter: Adapter) -> Matrices:
    found: Matrices = {}
    for name, factors in adapter.layers.items():
        found[f"{name}.a"] = factors.a.astype(np.float64)
        found[f"{name}.b"] = factors.b.T.astype(np.float64)
    return found


def _rotation(pairs: Sequence[tuple[Matrix, Matrix]]) -> Matrix:
    """The orthogonal matrix that, applied to the first of each pair, brings it nearest to the second (Procrustes)."""
    u, _, v = svd(sum((near @ far.T for far, near in pairs), np.zeros(())))
    rotation: Matrix = u @ v
    return rotation


def _padded(matrix: Matrix, rank: int) -> Matrix:
    return np.pad(matrix, [(0, rank - len(matrix)), (0, 0)])
