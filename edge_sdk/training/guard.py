"""Guard: stops a training that learns single pictures by heart, or that forgets what the base model knows.

It looks at two losses at fixed noise. On pictures of the owner that are kept from training, the loss falls while the
adapter learns what the pictures have in common, and rises again when it learns them by heart. On pictures that the base
model drew itself (prior pictures, as in DreamBooth, arXiv 2208.12242), it rises as the adapter drifts from everything
that it was not asked to change. The adapter of the best look is the result.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edge_sdk.errors import TrainingError
from edge_sdk.pictures import Picture
from edge_sdk.training.encoding import Pictures

Reason = Literal["by heart", "drift"]
# From so many pictures on, one in `_SHARE` is kept from training; with fewer, each is worth more than the look at it.
_FEW, _SHARE = 12, 8


@dataclass(frozen=True)
class Guard:
    """Rules by which a training is stopped before its time.

    Attributes:
        held_out: the owner's pictures that are not trained on; None leaves `drift` alone to stop the training.
        prior: pictures that the base model drew, with their captions; None leaves `patience` alone.
        every: steps between two looks.
        patience: looks without a better held-out loss after which the training stops.
        drift: largest rise of the loss on the prior pictures that is allowed, relative to that before the first step.
        levels: timesteps of each picture, see `Trainer.evaluate`.

    Raises:
        TrainingError: there are neither held-out nor prior pictures, or a number makes no sense.
    """

    held_out: Pictures | None = None
    prior: Pictures | None = None
    every: int = 24
    patience: int = 3
    drift: float = 0.1
    levels: int = 4

    def __post_init__(self) -> None:
        if self.held_out is None and self.prior is None:
            raise TrainingError("A guard needs pictures to look at: held-out ones, prior ones, or both.")
        if self.every < 1 or self.patience < 1 or self.levels < 1 or not 0 < self.drift < math.inf:
            raise TrainingError("A guard needs every, patience and levels of at least 1, and a drift above 0.")


@dataclass(frozen=True)
class Look:
    """Losses at fixed noise after a number of steps; NaN where there are no pictures of the kind."""

    step: int
    held_out: float
    prior: float


def best_of(looks: Sequence[Look], guard: Guard) -> int:
    """Number of the look whose adapter is the result: the lowest held-out loss among those that do not drift.

    Without held-out pictures, the last look that does not drift. The first look, before any step, never drifts.
    """
    steady = [number for number, look in enumerate(looks) if not _drifts(look, looks[0], guard)]
    if math.isnan(looks[0].held_out):
        return steady[-1]
    return min(steady, key=lambda number: looks[number].held_out)


def reason_to_stop(looks: Sequence[Look], guard: Guard) -> Reason | None:
    """The reason to stop after the last look, or None to go on."""
    if _drifts(looks[-1], looks[0], guard):
        return "drift"
    if not math.isnan(looks[0].held_out):
        lowest = min(range(len(looks)), key=lambda number: looks[number].held_out)
        if len(looks) - 1 - lowest >= guard.patience:
            return "by heart"
    return None


def keep_back(pictures: Sequence[Picture]) -> tuple[list[Picture], list[Picture]]:
    """Divide pictures into those to train on and those for a guard to look at: one in eight, from twelve on.

    The choice follows from each picture alone, so that a picture more moves at most one other to the other side.
    """
    count = len(pictures) // _SHARE if len(pictures) >= _FEW else 0
    order = sorted(pictures, key=lambda one: hashlib.sha256(one.image.tobytes() + one.text.encode()).digest())
    kept = {id(one) for one in order[:count]}
    return [one for one in pictures if id(one) not in kept], order[:count]


def _drifts(look: Look, first: Look, guard: Guard) -> bool:
    return look.prior > first.prior * (1 + guard.drift)
