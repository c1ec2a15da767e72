"""A short description of the subspaces that an adapter writes into: inner products stand for principal angles.

`basis_similarity` is the mean over the layers of <P, Q>, with P = U U^T / ||U U^T||_F the projector of a device's basis
U in that layer. With fixed random signs g, h, the number g^T P h = (U^T g)^T (U^T h) / sqrt(p) keeps inner products in
expectation: E[(g^T P h)(g^T Q h)] = tr(P Q^T). A sketch has many such numbers a layer: of all pairs among a few sign
vectors drawn by the layer's name, which are uncorrelated. The error of an inner product is about 1 / sqrt(length).

A device's sketch needs no other device and depends on its own bases alone, so that it is made once and kept. Its length
is bounded, whatever the rank and the number of layers; its numbers are bytes, whose rounding (1 % of a number) is small
beside the error of the projection.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edge_sdk.adapter import Bases

Sketch: TypeAlias = npt.NDArray[np.int8]
MOST_NUMBERS = 16384  # an error of 0.008
_FEWEST_SIGNS = 3  # vectors a layer: three pairs
_STEPS = 24.0  # of a byte, in one standard deviation of a number: the largest is 5.3 of them


@dataclass(frozen=True)
class Sketches:
    """Of several devices. trained: (devices,) which have one; numbers: (trained, length) theirs, in the same order."""

    trained: npt.NDArray[np.bool_]
    numbers: npt.NDArray[np.int8]


class Sketcher:
    """Args: layers: the outputs of every layer that adapters may have; length: the most numbers."""

    def __init__(self, layers: Mapping[str, int], length: int = MOST_NUMBERS) -> None:
        names = sorted(layers)
        wanted = length // max(1, len(names))
        count = max(_FEWEST_SIGNS, int((1 + np.sqrt(1 + 8 * wanted)) / 2))  # pairs: count (count - 1) / 2
        self._first, self._second = np.triu_indices(count, 1)
        self._pairs = len(self._first)
        self._signs = {name: _signs(name, layers[name], count) for name in names}
        self._starts = {name: at * self._pairs for at, name in enumerate(names)}
        self.length = len(names) * self._pairs

    def __call__(self, bases: Bases) -> Sketch:
        """(length,): layers that are missing, zero or unknown count as zero; the others all the same."""
        known = {name: basis for name, basis in bases.items() if basis.shape[1] and name in self._signs}
        numbers = np.zeros(self.length, np.float32)
        for name, basis in known.items():
            seen = self._signs[name] @ basis.astype(np.float32)
            products = (seen @ seen.T)[self._first, self._second]
            start = self._starts[name]
            numbers[start : start + self._pairs] = products / np.float32(np.sqrt(basis.shape[1]))
        # Each product has a standard deviation of 1 where there is one layer, and the layers share a length of 1.
        numbers *= _STEPS * np.sqrt(len(self._signs) / max(1, len(known)))
        sketch: Sketch = np.clip(np.rint(numbers), -127, 127).astype(np.int8)
        return sketch


def sketched(devices: Sequence[Bases | None]) -> Sketches:
    """Of bases that are in memory."""
    layers = {name: len(basis) for bases in devices if bases for name, basis in bases.items()}
    sketcher = Sketcher(layers)
    return gathered(
        (sketcher(bases) if bases is not None else None for bases in devices), len(devices), sketcher.length
    )


def gathered(sketches: Iterable[Sketch | None], devices: int, length: int) -> Sketches:
    """Sketches read one at a time, None of devices that have none."""
    trained = np.zeros(devices, dtype=bool)
    numbers = np.zeros((devices, length), np.int8)
    for at, sketch in enumerate(sketches):
        if sketch is not None:
            numbers[int(trained.sum())] = sketch
            trained[at] = True
    return Sketches(trained, numbers[: int(trained.sum())])


def _signs(layer: str, outputs: int, count: int) -> npt.NDArray[np.float32]:
    """(count, outputs) signs."""
    rng = np.random.default_rng(zlib.crc32(layer.encode()))
    signs: npt.NDArray[np.float32] = rng.choice(np.array([-1, 1], np.float32), (count, outputs))
    return signs
