"""Prompt codes as clustering sees them: no device's code may decide what is made of all others.

Clustering centres codes over the devices, and mean embeddings are all alike: their deviations from the mean are small.
A single code of great length, or in a direction of its own, would move the mean so far that all others deviate from it
in the same way, and look alike. So a code is a direction, and one that stands alone says nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from coordinator.methods.clustering import Matrix
from coordinator.rounds import Device

# A code stands alone if even the nearest one is farther away than so many times the usual distance of the others.
ALONE = 3.0
# Among more devices than this one alone moves nothing.
_MOST = 256
_FEW = 32


class Standing(IntEnum):
    """How well a device is known: by name alone, by presence, by an update that has counted."""

    NAMED = 0
    SEEN = 1
    PROVEN = 2


def standing(device: Device) -> Standing:
    """That of a device that has joined."""
    return Standing.PROVEN if device.proven else Standing.SEEN if device.seen else Standing.NAMED


def directions(codes: Sequence[bytes], standings: Sequence[Standing]) -> Matrix:
    """(n, dimensions): the codes at unit length.

    Where the base model does not say how many dimensions a code has, they are those of most devices, among the best
    known ones. A code of others, one that is zero, and one that stands alone say nothing: each is the mean of those
    that say something, and so resembles nobody once they are centred.
    """
    best = max(standings, default=Standing.NAMED)
    votes = Counter(len(code) for code, known in zip(codes, standings, strict=True) if known is best)
    size = max(votes, key=lambda size: (votes[size], size), default=4)
    rows = np.zeros((len(codes), size // 4))
    for row, code in zip(rows, codes, strict=True):
        if len(code) == size:
            row[:] = np.frombuffer(code, "<f4")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    says = lengths[:, 0] > 0
    rows[says] /= lengths[says]
    if says.any():
        chosen = np.flatnonzero(says)
        says[chosen[_alone(rows[chosen])]] = False
        rows[~says] = rows[says].mean(axis=0)
    return rows


def _alone(rows: Matrix) -> npt.NDArray[np.bool_]:
    """(n,): whose nearest neighbour is `ALONE` times as far away as two of the others usually are."""
    count = len(rows)
    found = np.zeros(count, np.bool_)
    if not 4 <= count <= _MOST:
        return found
    distances = np.maximum(0.0, 1.0 - rows @ rows.T)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.min(axis=1)
    if count > _FEW:  # one more or less changes no median
        found[:] = nearest > ALONE * _usual(distances) + 1e-9
        return found
    for i in range(count):
        others = np.delete(np.arange(count), i)
        found[i] = nearest[i] > ALONE * _usual(distances[np.ix_(others, others)]) + 1e-9
    return found


def _usual(distances: Matrix) -> float:
    """The median over all pairs."""
    return float(np.median(distances[np.triu_indices(len(distances), 1)]))
