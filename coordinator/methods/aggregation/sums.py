"""Running sums for aggregators: of factors, and of products. Both can be merged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edge_sdk.adapter import MAX_RANK, Adapter, Factors, Kernel, concatenate, scale, truncate

Matrix = npt.NDArray[np.float64]


class FactorSum:
    """The weighted sum of one factor per layer, with smaller ranks padded by zero rows.

    Args:
        factor: returns the factor, with the rank as its first axis.

    Attributes:
        kernels: layer -> kernel of a convolution, None for a linear layer.
    """

    def __init__(self, factor: Callable[[Factors], npt.NDArray[np.floating]]) -> None:
        self._factor = factor
        self._sums: dict[str, Matrix] = {}
        self._rows: dict[str, Matrix] = {}
        self._weight = 0.0
        self.kernels: dict[str, Kernel | None] = {}

    def add(self, adapter: Adapter, weight: float) -> None:
        self._weight += weight
        for name, factors in adapter.layers.items():
            self.kernels[name] = factors.kernel
            rows = self._factor(factors).astype(np.float64)
            self._put(name, weight * rows, np.full(len(rows), weight))

    def merge(self, other: FactorSum) -> None:
        self._weight += other._weight
        self.kernels |= other.kernels
        for name, total in other._sums.items():
            self._put(name, total, other._rows[name])

    def mean(self) -> dict[str, Matrix]:
        """Return layer -> (rank, features): each row averaged over all updates, where a missing row counts as zero."""
        return {name: total / self._weight for name, total in self._sums.items()}

    def mean_of_owners(self) -> dict[str, Matrix]:
        """Return layer -> (rank, features): each row averaged over the updates that have it."""
        return {name: total / self._rows[name][:, None] for name, total in self._sums.items()}

    def _put(self, name: str, rows: Matrix, weights: Matrix) -> None:
        total = self._sums.get(name, np.zeros((0, rows.shape[1])))
        owners = self._rows.get(name, np.zeros(0))
        size = max(len(total), len(rows))
        self._sums[name] = _grown(total, size) + _grown(rows, size)
        self._rows[name] = _grown(owners, size) + _grown(weights, size)


class ProductSum:
    """The exact weighted sum of the products, as factors: never a matrix of a layer's size.

    Ranks add up. From time to time the sum is compressed to the rank that it needs, which is at most the smaller side
    of each layer, however many updates there are, and loses nothing but rounding. If that side is larger than the
    largest rank of an adapter (1024) less the rank of an update, the smallest directions beyond are dropped.

    Args:
        rank: rank of a usual update; sets how often to compress.
    """

    def __init__(self, rank: int) -> None:
        self._step = 8 * rank
        self._limit = self._step
        self._sum: Adapter | None = None
        self._weight = 0.0

    def add(self, adapter: Adapter, weight: float) -> None:
        self._weight += weight
        self._put([(double(adapter), weight)])

    def merge(self, other: ProductSum) -> None:
        self._weight += other._weight
        if other._sum is not None:
            half = MAX_RANK // 2
            other_sum = other._sum if other._sum.rank + self.rank <= MAX_RANK else truncate(other._sum, half)[0]
            self._put([(other_sum, 1.0)])

    def mean(self) -> Adapter:
        """Return the weighted mean at the rank that it needs."""
        assert self._sum is not None, "nothing was added"
        return truncate(scale(self._sum, 1 / self._weight))[0]

    @property
    def rank(self) -> int:
        """Rank at which the sum is held."""
        return self._sum.rank if self._sum is not None else 0

    def _put(self, terms: list[tuple[Adapter, float]]) -> None:
        if self._sum is not None:
            room = MAX_RANK - sum(adapter.rank for adapter, _ in terms)
            held = self._sum if self._sum.rank <= room else truncate(self._sum, max(1, room))[0]
            terms = [(held, 1.0), *terms]
        self._sum = concatenate(terms)
        if self._sum.rank > self._limit:
            self._sum, _ = truncate(self._sum)
            self._limit = self._sum.rank + self._step


def paired(
    a: dict[str, Matrix], b: dict[str, Matrix], kernels: dict[str, Kernel | None], base_id: str | None
) -> Adapter:
    """Return the adapter of two `FactorSum` means, of A and of B transposed."""
    layers = {name: Factors(rows, np.ascontiguousarray(b[name].T), kernels[name]) for name, rows in a.items()}
    return Adapter(layers, base_id)


def double(adapter: Adapter) -> Adapter:
    """Return the same adapter in float64."""
    layers = {}
    for name, f in adapter.layers.items():
        layers[name] = Factors(f.a.astype(np.float64), f.b.astype(np.float64), f.kernel)
    return Adapter(layers, adapter.base_id)


def _grown(rows: Matrix, size: int) -> Matrix:
    missing = size - len(rows)
    return np.pad(rows, [(0, missing)] + [(0, 0)] * (rows.ndim - 1)) if missing else rows
