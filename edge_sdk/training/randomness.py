"""Random numbers by step number: those of step 57 depend on the run and on 57, not on the steps before.

So a resumed run equals an uninterrupted one, without saving the state of any generator.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Draw:
    """Random numbers of one training step for its batch of n pictures.

    Attributes:
        indices: (n,), the pictures' numbers. Every picture comes up once before any comes up again.
        timesteps: (n,), one from each n-th of the schedule, in random order: less variance than independent ones.
        noise: (n, c, h, w), standard normal.
        dropped: (n,) bool, True for the pictures whose caption is left out.
        mirrored: (n,) bool, True for the pictures that are mirrored, if the run mirrors any.
    """

    indices: Tensor
    timesteps: Tensor
    noise: Tensor
    dropped: Tensor
    mirrored: Tensor

    def __len__(self) -> int:
        return len(self.indices)

    def split(self, at_once: int) -> list[Draw]:
        """The same numbers in parts of so many pictures; the last one may have fewer."""
        parts = zip(*(getattr(self, field.name).split(at_once) for field in fields(self)), strict=True)
        return [Draw(*part) for part in parts]


@dataclass(frozen=True)
class Draws:
    """The random numbers of one run. `key` is any string; another key gives other numbers."""

    key: str
    pictures: int
    batch_size: int
    timesteps: int
    latent_shape: tuple[int, int, int]
    caption_dropout: float

    def step(self, step: int) -> Draw:
        rng = _generator(self.key, "step", step)
        n = self.batch_size
        strata = (rng.permutation(n) + rng.random(n)) / n
        return Draw(
            indices=torch.from_numpy(self._indices(step)),
            timesteps=torch.from_numpy((strata * self.timesteps).astype(np.int64)),
            noise=torch.from_numpy(rng.standard_normal((n, *self.latent_shape), dtype=np.float32)),
            dropped=torch.from_numpy(rng.random(n) < self.caption_dropout),
            mirrored=torch.from_numpy(rng.random(n) < 0.5),
        )

    def _indices(self, step: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        first = step * self.batch_size
        positions = range(first, first + self.batch_size)
        epochs = {position // self.pictures for position in positions}
        orders = {epoch: _generator(self.key, "epoch", epoch).permutation(self.pictures) for epoch in epochs}
        return np.array([orders[p // self.pictures][p % self.pictures] for p in positions], dtype=np.int64)


def evaluation_draw(picture: int, levels: int, timesteps: int, shape: tuple[int, int, int], seed: int) -> Draw:
    """The fixed noise and timesteps at which held-out picture number `picture` is judged.

    Timesteps: one from each of `levels` equal parts of the schedule, shifted from picture to picture by the golden
    ratio, so that together they cover it evenly.
    """
    rng = _generator("evaluation", str(seed), picture)
    shift = (picture * 0.6180339887498949) % 1.0
    t = (np.arange(levels) + shift) / levels * timesteps
    return Draw(
        indices=torch.full((levels,), picture),
        timesteps=torch.from_numpy(t.astype(np.int64)),
        noise=torch.from_numpy(rng.standard_normal((levels, *shape), dtype=np.float32)),
        dropped=torch.zeros(levels, dtype=torch.bool),
        mirrored=torch.zeros(levels, dtype=torch.bool),
    )


def _generator(key: str, purpose: str, number: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{key}/{purpose}/{number}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))
