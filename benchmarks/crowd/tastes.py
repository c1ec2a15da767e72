"""Synthetic federations of known taste groups, at the shapes of the stickers base model.

A prompt code has 192 dimensions (its text encoder's). An adapter has 56 layers, 32 of 192 outputs and 24 of 160 (the
attention of its UNet), each with a basis of `RANK` columns. Everything random follows from the seed and the device's
number, so a device is made when it is asked for, and none needs to be kept.

A device of group g has a second taste h with a share s, uniform up to `Noise.mixing`:

    code  = 3 m + (1 - s) c_g + s c_h + code_noise e         m, c, e: random vectors of length 1
    basis = orth([C, (1 - s) U_g + s U_h + basis_noise Z])   C: 2 columns that all devices share, as from one
                                                             initialisation; U, Z: 6 random columns of length 1

The second taste makes the task hard: unlike e and Z it does not average out over dimensions and layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from coordinator.methods.clustering import Evidence, Labels, Matrix
from edge_sdk.adapter import Bases

DIMENSIONS = 192
LAYERS = {"a": (32, 192), "b": (24, 160)}  # name -> number of layers, outputs of each
RANK = 8
_SHARED = 2


@dataclass(frozen=True)
class Noise:
    """Weights of noise in codes and in bases, and the largest share of a second taste."""

    code: float
    basis: float
    mixing: float


# At "faint", the devices of a group share so little of their subspaces that a signature's error hides it. The other
# three were chosen after this one had been tried.
NOISES = {
    "low": Noise(0.6, 0.7, 0.3),
    "middle": Noise(1.0, 1.2, 0.5),
    "high": Noise(1.4, 1.8, 0.7),
    "faint": Noise(1.7, 3.5, 0.7),
}


class Federation(Sequence[Bases | None]):
    """The bases of its devices, made when they are asked for."""

    def __init__(self, devices: int, groups: int, noise: Noise, seed: int) -> None:
        self._noise, self._seed = noise, seed
        rng = np.random.default_rng([seed, 0])
        self.truth: Labels = rng.permutation(np.arange(devices) % groups)
        self._second = rng.integers(groups, size=devices)
        self._share = rng.uniform(0.0, noise.mixing, devices)
        tastes = _unit(rng.normal(size=(groups, DIMENSIONS)))
        common = 3.0 * _unit(rng.normal(size=(1, DIMENSIONS)))
        share = self._share[:, None]
        own = (1 - share) * tastes[self.truth] + share * tastes[self._second]
        self.codes: Matrix = common + own + noise.code * _unit(rng.normal(size=(devices, DIMENSIONS)))
        self._shared = {k: _columns(rng, (count, out, _SHARED)) for k, (count, out) in LAYERS.items()}
        self._tastes = {k: _columns(rng, (groups, count, out, RANK - _SHARED)) for k, (count, out) in LAYERS.items()}

    def evidence(self, rounds: int, *, kept: bool = True) -> Evidence:
        """The federation's evidence after `rounds` rounds; kept: hold all bases in memory."""
        return Evidence(self.codes, list(self) if kept else self, rounds)

    def __len__(self) -> int:
        return len(self.truth)

    @overload
    def __getitem__(self, index: int) -> Bases: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Bases]: ...

    def __getitem__(self, index: int | slice) -> Bases | Sequence[Bases]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        rng, share = np.random.default_rng([self._seed, 1 + index]), self._share[index]
        bases: dict[str, Matrix] = {}
        for kind, tastes in self._tastes.items():
            own = (1 - share) * tastes[self.truth[index]] + share * tastes[self._second[index]]
            own = own + self._noise.basis * _columns(rng, own.shape)
            q, _ = np.linalg.qr(np.concatenate([self._shared[kind], own], axis=2))
            bases |= {f"unet.{kind}.{layer}": basis for layer, basis in enumerate(q)}
        return bases


def _unit(rows: Matrix) -> Matrix:
    unit: Matrix = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def _columns(rng: np.random.Generator, shape: tuple[int, ...]) -> Matrix:
    """Random columns of length about 1."""
    columns: Matrix = rng.standard_normal(shape) / np.sqrt(shape[-2])
    return columns
