"""Synthetic federations of known taste groups, at the shapes of the stickers base model.

A prompt code has 192 dimensions (its text encoder's). An adapter has 56 layers, 32 of 192 outputs and 24 of 160 (the
attention of its UNet), each with a basis of `RANK` columns. Everything random follows from the seed and the device's
number, so a device is made when it is asked for, and none needs to be kept.

A device of group g has a second taste h with a share s, uniform up to `Noise.mixing`:

    code  = 3 m + (1 - s) c_g + s c_h + code_noise e         m, c, e: random vectors of length 1
    basis = orth([C, (1 - s) U_g + s U_h + basis_noise Z])   C: 2 columns that all devices share, as from one
                                                             initialisation; U, Z: 6 random columns of length 1

The second taste makes the task hard: unlike e and Z it does not average out over dimensions and layers.

Captions of some devices may say nothing of taste: their codes are without c. The pictures of a device, p of them (4 to
20), are of its first taste. Its picture code, of 32 dimensions in which two pictures of one taste have variance 1, is

    code  = C_g + e / sqrt(p)      C: random vectors of length `SEPARATION`, that of group 0 four times as long, as one
                                   style is far away from all others; e: standard normal
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
PICTURE_DIMENSIONS = 32
SEPARATION = 3.0
_FAR = 4.0


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
    """The bases of its devices, made when they are asked for.

    Args:
        devices: number of devices.
        groups: number of taste groups.
        noise: its noise.
        seed: its seed.
        named: share of the devices whose captions name their taste.
        pictures: "informative" picture codes, "useless" ones, which say nothing of taste, or "none".
    """

    def __init__(
        self, devices: int, groups: int, noise: Noise, seed: int, *, named: float = 1.0, pictures: str = "none"
    ) -> None:
        self._noise, self._seed = noise, seed
        rng = np.random.default_rng([seed, 0])
        self.truth: Labels = rng.permutation(np.arange(devices) % groups)
        self._second = rng.integers(groups, size=devices)
        self._share = rng.uniform(0.0, noise.mixing, devices)
        tastes = _unit(rng.normal(size=(groups, DIMENSIONS)))
        common = 3.0 * _unit(rng.normal(size=(1, DIMENSIONS)))
        share = self._share[:, None]
        own = (1 - share) * tastes[self.truth] + share * tastes[self._second]
        # Of a generator of its own, so that the other evidence is the same whatever captions and pictures say.
        more = np.random.default_rng([seed, 0, 1])
        own[more.permutation(devices) >= round(named * devices)] = 0.0
        self.pictures = None if pictures == "none" else self._picture_codes(more, groups, pictures == "informative")
        self.codes: Matrix = common + own + noise.code * _unit(rng.normal(size=(devices, DIMENSIONS)))
        self._shared = {k: _columns(rng, (count, out, _SHARED)) for k, (count, out) in LAYERS.items()}
        self._tastes = {k: _columns(rng, (groups, count, out, RANK - _SHARED)) for k, (count, out) in LAYERS.items()}

    def evidence(self, rounds: int, *, kept: bool = True) -> Evidence:
        """The federation's evidence after `rounds` rounds; kept: hold all bases in memory."""
        return Evidence(self.codes, list(self) if kept else self, rounds, pictures=self.pictures)

    def _picture_codes(self, rng: np.random.Generator, groups: int, informative: bool) -> Matrix:
        devices = len(self.truth)
        tastes = SEPARATION * _unit(rng.normal(size=(groups, PICTURE_DIMENSIONS)))
        tastes[0] *= _FAR
        own = tastes[self.truth] if informative else 0.0
        pictures = rng.integers(4, 21, size=(devices, 1))
        codes: Matrix = own + rng.normal(size=(devices, PICTURE_DIMENSIONS)) / np.sqrt(pictures)
        return codes

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
