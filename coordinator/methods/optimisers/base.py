"""The base class of all server optimisers, and the step that is taken with one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from coordinator.methods import MethodSettings
from edge_sdk.adapter import MAX_RANK, Adapter, Factors, Share, align, svd, truncate

Matrix: TypeAlias = npt.NDArray[np.float64]
Matrices: TypeAlias = dict[str, Matrix]
"""Name -> a matrix of a factor or product, with the rank as its first axis."""


Pace: TypeAlias = Annotated[float, Meta(gt=0, le=100)]
"""Factor of a step."""
Inertia: TypeAlias = Annotated[float, Meta(ge=0, lt=1)]
"""Share of the last direction that stays."""


class ServerOptimiser(MethodSettings, frozen=True, kw_only=True):
    """Steps from the last adapter towards a round's mean. Its fields are the keys of the table [server_optimiser].

    Attributes:
        linear: true if steps and moments are linear in changes and moments. Such an optimiser works on products where
            both factors are trained; any other works on factors.
    """

    linear: ClassVar[bool] = False

    @abstractmethod
    def advance(self, change: Matrices, moments: Matrices) -> tuple[Matrices, Matrices]:
        """Return the step to take for the change of a round, and the new moments. Missing moments start anew."""


def step(
    optimiser: ServerOptimiser,
    start: Adapter,
    mean: Adapter,
    moments: Mapping[str, npt.NDArray[np.floating]],
    share: Share,
) -> tuple[Adapter, Matrices]:
    """Return the adapter that devices continue from instead of `mean`, and the moments for the next step.

    Args:
        optimiser: the server optimiser.
        start: the adapter that the round started from.
        mean: the aggregate of its updates.
        moments: moments of the last step; those that no longer fit are dropped.
        share: the factors that were trained.
    """
    if optimiser.linear and share is Share.BOTH:
        return _by_products(optimiser, start, mean, moments)
    return _by_factors(optimiser, start, mean, moments, share)


def _by_products(
    optimiser: ServerOptimiser,
    start: Adapter,
    mean: Adapter,
    moments: Mapping[str, npt.NDArray[np.floating]],
) -> tuple[Adapter, Matrices]:
    """Take a step on dW = B A, the same in every gauge (B G^-1)(G A).

    Between rounds the gauge changes by more than a rotation: devices of smaller ranks train other factors, and clusters
    that teach each other are refactored. On factors, momentum would add all of that up and diverge.

    A layer's products are written with one common A, orthonormal rows that span all of theirs, so that their B are
    linear. The result has the rank, gauge and scale of the mean. Moments are kept at twice that rank, which holds a
    whole change, or at the rank that `MAX_RANK` leaves.
    """
    before: Matrices = {}
    change: Matrices = {}
    known: Matrices = {}
    common: dict[str, Matrix] = {}
    for layer, goal in mean.layers.items():
        of_layer = {
            key.removesuffix(".b"): Factors(moments[f"{key.removesuffix('.b')}.a"], np.ascontiguousarray(b.T))
            for key, b in moments.items()
            if key.startswith(f"{layer}/") and key.endswith(".b")
        }
        products = [start.layers[layer], goal, *of_layer.values()]
        q, _ = np.linalg.qr(np.vstack([factors.a for factors in products]).T.astype(np.float64))
        common[layer] = np.ascontiguousarray(q.T)
        before[layer], after, *others = ((q.T @ factors.a.T) @ factors.b.T for factors in products)
        change[layer] = after - before[layer]
        known |= dict(zip(of_layer, others, strict=True))
    stride, fresh = optimiser.advance(change, known)
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
    share: Share,
) -> tuple[Adapter, Matrices]:
    """Take a step on A and B, as the devices' own optimisers do.

    Where both were trained, the factors of the mean are first rotated as near as possible to those of `start`: a
    rotation changes no product and must not count as a change. The signs that an SVD picks are such a rotation.
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
    stride, remembered = optimiser.advance(change, known)
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
    """Return the orthogonal matrix that brings the first of each pair nearest to the second (Procrustes)."""
    u, _, v = svd(sum((near @ far.T for far, near in pairs), np.zeros(())))
    rotation: Matrix = u @ v
    return rotation


def _padded(matrix: Matrix, rank: int) -> Matrix:
    return np.pad(matrix, [(0, rank - len(matrix)), (0, 0)])
