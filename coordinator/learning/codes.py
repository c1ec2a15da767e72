"""Codes for clustering, robust against single devices: no device's code may decide the comparison of all others.

Clustering centres codes over the devices, because mean embeddings are all alike and differ only by small deviations
from the mean. A single very long code, or one in a direction of its own, would move the mean so far that all other
codes deviate from it in the same way and look alike. So a code is reduced to its direction, and a code that stands
alone is ignored. Codes of a level that bounds their length, and that are centred by a public mean already, keep it: an
average device's code is short, and its direction is noise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from coordinator.methods.clustering import Matrix
from coordinator.rounds import Device
from edge_sdk.privacy import Level

T = TypeVar("T", int, bytes)

# A code stands alone if its nearest neighbour is farther away than this many times the others' median distance.
ALONE = 3.0
# Among more devices than this, one code cannot move the mean.
_MOST = 256
_FEW = 32
# Largest coordinate of a picture code, in median distances: sums of squares stay exact.
_FARTHEST = 1e3


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
    rows = _rows(codes, level.size(None) or _size_of_most(codes, standings), level.decode)
    says: npt.NDArray[np.bool_] = np.all(np.isfinite(rows), axis=1)
    rows[~says] = 0.0
    if not level.centred:
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        says &= lengths[:, 0] > 0
        rows[says] /= lengths[says]
    if says.any():
        chosen = np.flatnonzero(says)
        if len(chosen) <= _MOST:
            says[chosen[alone(_squared_distances(rows[chosen]))]] = False
        rows[~says] = rows[says].mean(axis=0)
    return rows


def source_of_most(codes: Sequence[tuple[bytes, bytes]], standings: Sequence[Standing]) -> bytes:
    """Return the source of most codes of the best known devices that have one; codes are given with their sources."""
    found = _of_most([(source, known) for (code, source), known in zip(codes, standings, strict=True) if code])
    return found or b""


def positions(codes: Sequence[bytes], standings: Sequence[Standing], level: Level) -> Matrix:
    """Return the picture codes about their median, in units of their median distance from it, (n, dimensions).

    Devices without a code, with one of another size and with one that stands alone have NaN: other evidence is for
    them. Several codes that are far away together stay, at a bounded distance.
    """
    rows = _rows(codes, _size_of_most(codes, standings), level.decode_pictures)
    chosen = np.flatnonzero(np.isfinite(rows).all(axis=1)) if rows.size else np.zeros(0, np.int64)
    if not len(chosen):
        return rows
    points = rows[chosen] - np.median(rows[chosen], axis=0)
    lengths = np.linalg.norm(points, axis=1)
    usual = float(np.median(lengths)) or float(lengths.mean()) or 1.0
    points = np.clip(points / usual, -_FARTHEST, _FARTHEST)
    points[_strays(points)] = np.nan
    rows[chosen] = points
    return rows


def _size_of_most(codes: Sequence[bytes], standings: Sequence[Standing]) -> int:
    """Return the size in bytes of most codes of the best known devices that have one; without codes, of one number."""
    return _of_most([(len(code), known) for code, known in zip(codes, standings, strict=True) if code]) or 4


def _of_most(told: Sequence[tuple[T, Standing]]) -> T | None:
    """Return the most frequent value of the best known devices, of equally frequent ones the largest; None without."""
    best = max((known for _, known in told), default=Standing.NAMED)
    votes = Counter(value for value, known in told if known is best)
    return max(votes, key=lambda value: (votes[value], value), default=None)


def _rows(codes: Sequence[bytes], size: int, decode: Callable[[bytes], Matrix]) -> Matrix:
    """Return the decoded codes (n, dimensions), NaN for those of another size."""
    rows = np.full((len(codes), len(decode(bytes(size)))), np.nan)
    for row, code in zip(rows, codes, strict=True):
        if len(code) == size:
            row[:] = decode(code)
    return rows


def _strays(points: Matrix) -> npt.NDArray[np.bool_]:
    """Return a mask (n,) of the points that stand alone, given at a median distance of 1 from their centre."""
    if len(points) <= _MOST:
        return alone(_squared_distances(points))
    # The median distance of pairs is about the square root of 2 here. Farther from all others than `ALONE` allows are
    # only points that are far from the centre.
    found = np.zeros(len(points), np.bool_)
    light = points.astype(np.float32)
    lengths = np.einsum("ij,ij->i", light, light)
    far = np.flatnonzero(lengths > 2.0)
    for first in range(0, len(far), _MOST):
        some = far[first : first + _MOST]
        distances = lengths[some, None] + lengths - 2 * light[some] @ light.T
        distances[np.arange(len(some)), some] = np.inf
        found[some] = distances.min(axis=1) > ALONE * 2.0
    return found


def _squared_distances(points: Matrix) -> Matrix:
    """Return the squared distances of all pairs, (n, n)."""
    squares = np.einsum("ij,ij->i", points, points)
    distances: Matrix = np.maximum(0.0, squares[:, None] + squares - 2 * points @ points.T)
    return distances


def alone(distances: Matrix) -> npt.NDArray[np.bool_]:
    """Return a mask (n,) of the codes that stand alone; nobody does among fewer than four.

    Their nearest neighbour is more than `ALONE` times as far away as the others' median distance.

    Args:
        distances: (n, n) squared distances, in any unit. The diagonal is changed.
    """
    count = len(distances)
    found = np.zeros(count, np.bool_)
    if count < 4:
        return found
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
