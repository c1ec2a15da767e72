"""Inner products of a group's changes, for filters: exact for few updates, from small cores for many.

A change is update - start, as a product of factors. Few updates are compared by their factors, put side by side:
<B1 A1, B2 A2> = sum((B1^T B2) * (A1 A2^T)), all pairs of a layer in two matrix products.

Of many updates only cores are kept, P B A Q for each layer, with random matrices P and Q that are the same for all.
Their inner products are those of the changes but for a random error (Johnson-Lindenstrauss; a few per cent in all
layers together); afterwards they are scaled to the changes' true norms. P and Q follow from a seed that devices must
not know: a change made to vanish under P and Q would be invisible to a filter.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from edge_sdk.adapter import Adapter

Matrix = npt.NDArray[np.float64]
Core = npt.NDArray[np.float32]

NUMBERS = 4096
"""Numbers in the core of an update, all layers together: 16 KB."""
_SMALLEST = 4  # rows of P and columns of Q, at least
_BLOCK = 1 << 21  # numbers of one block of inner products


class Cores:
    """Makes cores of adapters.

    Args:
        layers: the number of layers that adapters have; each has an equal share of `NUMBERS`.
        seed: seed of P and Q.
    """

    def __init__(self, layers: int, seed: int) -> None:
        self._side = max(_SMALLEST, int(np.sqrt(NUMBERS / max(1, layers))))
        self._seed = seed
        self._made: dict[tuple[str, str, int], Matrix | None] = {}

    def __call__(self, adapter: Adapter) -> Matrix:
        """Return the core of an adapter, (n,): that of its layers in the order of their names."""
        parts = []
        for name, factors in sorted(adapter.layers.items()):
            left, right = self._matrix(name, "left", len(factors.b)), self._matrix(name, "right", factors.a.shape[1])
            b, a = factors.b.astype(np.float64), factors.a.astype(np.float64)
            parts.append(((b if left is None else left @ b) @ (a if right is None else a @ right.T)).ravel())
        return np.concatenate(parts)

    def _matrix(self, layer: str, side: str, features: int) -> Matrix | None:
        """Return P or Q^T of a layer, (rows, features); None for the identity, if the layer is small."""
        if features <= self._side:
            return None
        key = (layer, side, features)
        if key not in self._made:
            rng = np.random.default_rng([self._seed, zlib.crc32(layer.encode()), zlib.crc32(side.encode())])
            self._made[key] = rng.standard_normal((self._side, features)) / np.sqrt(self._side)
        return self._made[key]


def products_of_cores(cores: Sequence[Core], norms: Sequence[float] | None) -> Matrix:
    """Return the inner products of changes (n, n), from their cores.

    Args:
        cores: the core of each change.
        norms: the changes' norms; None if they are not known.
    """
    rows = np.stack(cores).astype(np.float64)
    products: Matrix = rows @ rows.T
    if norms is not None:
        found = np.sqrt(np.diag(products))
        by = np.divide(np.asarray(norms, np.float64), found, out=np.zeros_like(found), where=found > 0)
        products *= by[:, None] * by[None, :]
    return products


def products_of_changes(updates: Sequence[Adapter], starts: Sequence[Adapter]) -> Matrix:
    """Return the inner products <u_i - s_i, u_j - s_j> (n, n), exactly.

    Args:
        updates: the updates u; a layer that one of them lacks counts as zero there.
        starts: the start s of each; equal ones are one object.
    """
    distinct = list({id(start): start for start in starts}.values())
    place = {id(start): i for i, start in enumerate(distinct)}
    whole = _products([*updates, *distinct])
    n, at = len(updates), [len(updates) + place[id(start)] for start in starts]
    return whole[:n, :n] - whole[:n][:, at] - whole[at][:, :n] + whole[np.ix_(at, at)]


def _products(adapters: Sequence[Adapter]) -> Matrix:
    """Return the inner products of the adapters (n, n)."""
    total = np.zeros((len(adapters), len(adapters)))
    for name in sorted({name for adapter in adapters for name in adapter.layers}):
        having = [i for i, adapter in enumerate(adapters) if name in adapter.layers]
        factors = [adapters[i].layers[name] for i in having]
        a = np.concatenate([f.a for f in factors]).astype(np.float64)
        b = np.concatenate([f.b for f in factors], axis=1).astype(np.float64)
        ends = np.cumsum([f.rank for f in factors])
        begins = ends - [f.rank for f in factors]
        for first, last in _blocks(ends):
            rows = slice(begins[first], ends[last - 1])
            pairs = (b[:, rows].T @ b) * (a[rows] @ a.T)
            sums = np.add.reduceat(np.add.reduceat(pairs, begins, axis=1), begins[first:last] - begins[first], axis=0)
            total[np.ix_(having[first:last], having)] += sums
    return total


def _blocks(ends: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield ranges of adapters whose rows in the matrix of all pairs of ranks have at most `_BLOCK` numbers."""
    most, first = max(1, _BLOCK // int(ends[-1])), 0
    while first < len(ends):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + most, side="right")))
        yield first, last
        first = last
