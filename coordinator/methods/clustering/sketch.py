"""Sketches: short descriptions of an adapter's output subspaces, whose inner products replace principal angles.

`basis_similarity` is the mean over the layers of <P, Q>, with P = U U^T / ||U U^T||_F the projector of a device's basis
U in that layer. With fixed random signs g, h, the number g^T P h = (U^T g)^T (U^T h) / sqrt(p) keeps inner products in
expectation: E[(g^T P h)(g^T Q h)] = tr(P Q^T). A sketch has many such numbers a layer: one for each pair of a few sign
vectors drawn by the layer's name; these numbers are uncorrelated. The error of an inner product is about 1 /
sqrt(length).

A device's sketch depends on its own bases alone, so that it is made once and stored. Its length is bounded, whatever
the rank and the number of layers; its numbers are bytes, whose rounding (1 % of a number) is small compared with the
error of the projection.
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
_STEPS = 24.0  # byte steps in one standard deviation of a number; the largest byte is 5.3 deviations


@dataclass(frozen=True)
class Sketches:
    """Sketches of n devices.

    Attributes:
        trained: (n,) mask of the devices that have one.
        numbers: (trained devices, length) their sketches, in the same order.
        layers: number of layers, in the order of names, that share a sketch's numbers equally.
    """

    trained: npt.NDArray[np.bool_]
    numbers: npt.NDArray[np.int8]
    layers: int = 1

    def some(self, chosen: npt.NDArray[np.int64]) -> Sketches:
        """Return the sketches of these devices."""
        places = np.cumsum(self.trained) - 1
        trained = self.trained[chosen]
        return Sketches(trained, self.numbers[places[chosen[trained]]], self.layers)

    def halves(self) -> tuple[Sketches, Sketches]:
        """Return the sketches of the even layers, and of the odd ones."""
        blocks = self.numbers.reshape(len(self.numbers), self.layers, -1)
        even, odd = (blocks[:, parity::2] for parity in (0, 1))
        return (
            Sketches(self.trained, even.reshape(len(even), -1), even.shape[1]),
            Sketches(self.trained, odd.reshape(len(odd), -1), odd.shape[1]),
        )


class Sketcher:
    """Makes sketches of one length.

    Args:
        layers: layer -> number of outputs, for every layer that adapters may have.
        length: largest number of bytes in a sketch.

    Attributes:
        length: number of bytes in a sketch.
        layers: number of layers, each of which has as many of them.
    """

    def __init__(self, layers: Mapping[str, int], length: int = MOST_NUMBERS) -> None:
        names = sorted(layers)
        wanted = length // max(1, len(names))
        count = max(_FEWEST_SIGNS, int((1 + np.sqrt(1 + 8 * wanted)) / 2))  # pairs: count (count - 1) / 2
        self._first, self._second = np.triu_indices(count, 1)
        self._pairs = len(self._first)
        self._signs = {name: _signs(name, layers[name], count) for name in names}
        self._starts = {name: position * self._pairs for position, name in enumerate(names)}
        self.length = len(names) * self._pairs
        self.layers = max(1, len(names))

    def __call__(self, bases: Bases) -> Sketch:
        """Return the sketch (length,) of bases. Layers that are missing, empty or unknown count as zero.

        The other layers share the whole weight equally.
        """
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


def sketches_of(devices: Sequence[Bases | None]) -> Sketches:
    """Return the sketches of bases in memory."""
    layers = {name: len(basis) for bases in devices if bases for name, basis in bases.items()}
    sketcher = Sketcher(layers)
    return gathered((sketcher(bases) if bases is not None else None for bases in devices), len(devices), sketcher)


def gathered(sketches: Iterable[Sketch | None], devices: int, sketcher: Sketcher) -> Sketches:
    """Collect a sketcher's sketches that are read one at a time; None for a device that has none."""
    trained = np.zeros(devices, dtype=bool)
    numbers = np.zeros((devices, sketcher.length), np.int8)
    for device, sketch in enumerate(sketches):
        if sketch is not None:
            numbers[int(trained.sum())] = sketch
            trained[device] = True
    return Sketches(trained, numbers[: int(trained.sum())], sketcher.layers)


def _signs(layer: str, outputs: int, count: int) -> npt.NDArray[np.float32]:
    """Return (count, outputs) random signs, fixed by the layer's name."""
    rng = np.random.default_rng(zlib.crc32(layer.encode()))
    signs: npt.NDArray[np.float32] = rng.choice(np.array([-1, 1], np.float32), (count, outputs))
    return signs
