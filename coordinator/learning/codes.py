"""Prompt codes for clustering, robust against single devices: no device's code may decide the comparison of all others.

Clustering centres codes over the devices, because mean embeddings are all alike and differ only by small deviations
from the mean. A single very long code, or one in a direction of its own, would move the mean so far that all other
codes deviate from it in the same way and look alike. So a code is reduced to its direction, and a code that stands
alone is ignored. Codes of a level that bounds their length, and that are centred by a public mean already, keep it: an
average device's code is short, and its direction is noise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from coordinator.methods.clustering import Matrix
from coordinator.rounds import Device
from edge_sdk.privacy import Level

# A code stands alone if its nearest neighbour is farther away than this many times the others' median distance.
ALONE = 3.0
# Among more devices than this, one code cannot move the mean.
_MOST = 256
_FEW = 32


class Standing(IntEnum):
    """Reliability of a device, in rising order: known by name only, by presence, by a counted update."""

    NAMED = 0
    SEEN = 1
    PROVEN = 2


def standing(device: Device) -> Standing:
    """Return the standing of a device that has joined."""
    return Standing.PROVEN if device.proven else Standing.SEEN if device.seen else Standing.NAMED


def comparable(codes: Sequence[bytes], standings: Sequence[Standing], level: Level) -> Matrix:
    """Return the codes as numbers, (n, dimensions), of length 1 or, if their level is centred, of length 1 at most.

    If the base model does not state the size of a code, it is that of most devices among the best known ones. Codes of
    another size, codes that only have a direction and are zero, and codes that stand alone are replaced by the mean of
    the others, and so resemble nobody after centring.
    """
    size = level.size(None) or _size_of_most(codes, standings)
    says = np.array([len(code) == size for code in codes], np.bool_)
    rows = np.zeros((len(codes), len(level.decode(bytes(size)))))
    for row, code, whole in zip(rows, codes, says, strict=True):
        if whole:
            row[:] = level.decode(code)
    if not level.centred:
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        says &= lengths[:, 0] > 0
        rows[says] /= lengths[says]
    if says.any():
        chosen = np.flatnonzero(says)
        says[chosen[_alone(rows[chosen])]] = False
        rows[~says] = rows[says].mean(axis=0)
    return rows


def _size_of_most(codes: Sequence[bytes], standings: Sequence[Standing]) -> int:
    """Return the size of most codes of the best known devices, in bytes; of no codes at all that of one number."""
    best = max(standings, default=Standing.NAMED)
    votes = Counter(len(code) for code, known in zip(codes, standings, strict=True) if known is best and code)
    return max(votes, key=lambda size: (votes[size], size), default=4)


def _alone(rows: Matrix) -> npt.NDArray[np.bool_]:
    """Return a mask (n,) of the codes that stand alone.

    Their nearest neighbour is more than `ALONE` times as far away as the others' median distance.
    """
    count = len(rows)
    found = np.zeros(count, np.bool_)
    if not 4 <= count <= _MOST:
        return found
    squares = (rows**2).sum(axis=1)
    distances = np.maximum(0.0, 0.5 * (squares[:, None] + squares) - rows @ rows.T)  # 1 - cosine at unit length
    np.fill_diagonal(distances, np.inf)
    nearest = distances.min(axis=1)
    if count > _FEW:  # leaving one out does not change the median noticeably
        found[:] = nearest > ALONE * _usual(distances) + 1e-9
        return found
    for i in range(count):
        others = np.delete(np.arange(count), i)
        found[i] = nearest[i] > ALONE * _usual(distances[np.ix_(others, others)]) + 1e-9
    return found


def _usual(distances: Matrix) -> float:
    """Return the median over all pairs."""
    return float(np.median(distances[np.triu_indices(len(distances), 1)]))
