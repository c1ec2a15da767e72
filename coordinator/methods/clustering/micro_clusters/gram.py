"""Inner products of many vectors as a linear operator: the matrix (n, n) is never formed."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from coordinator.methods.clustering.evidence import Labels

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Vectors: TypeAlias = npt.NDArray[np.float32]
_BLOCK = 1 << 23  # numbers that a block of rows holds in memory


class Gram:
    """Inner products of the rows' deviations from their mean, scaled to length 1; zero for a row equal to the mean.

    The rows stay as they are, for example bytes, and are converted to float32 block by block.

    Args:
        rows: (n, d).

    Attributes:
        squares: (n,) the diagonal: 1, or 0.
    """

    def __init__(self, rows: npt.NDArray[Any]) -> None:
        self._rows = rows
        self._mean = np.zeros(rows.shape[1], np.float32)
        self._scale = np.ones(len(rows), np.float32)
        total, largest = np.zeros(rows.shape[1]), 0.0
        for _, block in self._blocks():
            total += block.sum(axis=0, dtype=np.float64)
            largest = max(largest, float(squares(block).max()))
        self._mean = (total / max(1, len(rows))).astype(np.float32)
        lengths = np.zeros(len(rows), np.float32)
        for span, block in self._blocks():
            lengths[span] = np.sqrt(squares(block))
        safe = lengths > 1e-5 * np.sqrt(largest)
        self._scale = np.where(safe, 1.0 / np.where(safe, lengths, 1.0), 0.0).astype(np.float32)
        self.squares: Vectors = safe.astype(np.float32)

    def __len__(self) -> int:
        return len(self._rows)

    def some(self, chosen: npt.NDArray[np.bool_]) -> Gram:
        """Return the inner products among the chosen rows, (n,) mask, of the same deviations."""
        part = copy(self)
        part._rows, part._scale, part.squares = self._rows[chosen], self._scale[chosen], self.squares[chosen]
        return part

    def times(self, weights: Vectors | csr_array) -> Vectors:
        """Return (n, k): the product with weights (n, k)."""
        sums = np.zeros((self._rows.shape[1], weights.shape[1]), np.float32)
        for rows, block in self._blocks():
            sums += (weights[rows].T @ block).T
        products = np.zeros((len(self), weights.shape[1]), np.float32)
        for rows, block in self._blocks():
            products[rows] = block @ sums
        return products

    def _blocks(self) -> Iterator[tuple[slice, Vectors]]:
        """Yield the scaled deviations, block by block."""
        step = max(1, _BLOCK // max(1, self._rows.shape[1]))
        for first in range(0, len(self._rows), step):
            rows = slice(first, first + step)
            yield rows, (self._rows[rows].astype(np.float32) - self._mean) * self._scale[rows, None]


def indicators(labels: Labels) -> csr_array:
    """Return (n, k): 1 where a label 0 … k-1 equals the column."""
    from scipy.sparse import csr_array

    shape = (len(labels), int(labels.max(initial=-1)) + 1)
    return csr_array((np.ones(len(labels), np.float32), (np.arange(len(labels)), labels)), shape=shape)


def sums(rows: npt.NDArray[Any], labels: Labels) -> Any:
    """Return (k, d): the sum of the rows (n, d) of each label."""
    return indicators(labels).T @ rows


def squares(vectors: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return (n,): the squared lengths of the rows."""
    found: npt.NDArray[Any] = np.einsum("ij,ij->i", vectors, vectors)
    return found
