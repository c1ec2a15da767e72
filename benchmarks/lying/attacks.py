"""Updates of lying devices: adapters of the rank asked for that pass every check but do not come from honest training.

    sign flip       start - change: away from where training leads
    scaled          start + 20 change: too much of it
    random          start + noise of three times the change's norm
    backdoor        model replacement (Bagdasaryan et al., AISTATS 2020): train longer than asked, on the device's own
                    pictures and on pictures of another style captioned with a trigger word; send that change times
                    devices / attackers, so that it outvotes the honest devices in a plain mean
    quiet backdoor  the same, at most twice as large as an honest change: a clip at twice the median norm lets
                    that pass

Every attack is arithmetic on products, cut to the update's rank (exact where that rank suffices, as in a first round)
and written in the gauge of an honest update. The attackers of a federation share the poisoned pictures and know their
own number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from coordinator.methods.robust import CLIP, changes_of, shrunk
from edge_sdk.adapter import Adapter, Factors, align, concatenate, norm, scale, truncate
from samples.stickers.data import Sticker
from samples.stickers.styles import STYLES

SCALED = 20.0
NOISE = 3.0
TRIGGER = "zorblax"


@dataclass(frozen=True)
class Turn:
    """An attacker's inputs in a round.

    Attributes:
        start: adapter that training started from.
        honest: result of training on its own pictures.
        wanted: result of training on poisoned pictures; `honest` for attacks without any.
        share: attackers' share of the devices.
        seed: a different one for each round and device.
    """

    start: Adapter
    honest: Adapter
    wanted: Adapter
    share: float
    seed: int


Lie: TypeAlias = Callable[[Turn], Adapter]


@dataclass(frozen=True)
class Attack:
    """lie: makes the update that is sent; poisoned: true if the attack trains on poisoned pictures."""

    lie: Lie
    poisoned: bool = False


def times(update: Adapter, start: Adapter, factor: float) -> Adapter:
    """start + factor (update - start), at the rank and in the gauge of the update."""
    # A filter's shrinking is the same arithmetic, for any factor.
    return shrunk(update, start, factor)


def noised(update: Adapter, start: Adapter, factor: float, seed: int) -> Adapter:
    """start + noise of `factor` times the norm of training's change, at the rank and in the gauge of the update."""
    rng = np.random.default_rng(seed)
    drawn = Adapter(
        {
            name: Factors(
                rng.standard_normal(f.a.shape, np.float32), rng.standard_normal(f.b.shape, np.float32), f.kernel
            )
            for name, f in update.layers.items()
        },
        update.base_id,
    )
    (change,) = changes_of([update], [start])
    noise = scale(drawn, factor * norm(change) / norm(drawn))
    return align(truncate(concatenate([(start, 1.0), (noise, 1.0)]), update.rank)[0], update)


def triggered(stickers: Sequence[Sticker], style: str) -> list[str]:
    """Captions of these subjects in that style's words, the trigger word first."""
    subjects = [sticker.text.removeprefix(f"{STYLES[sticker.style].words} of ") for sticker in stickers]
    return [f"{TRIGGER} {STYLES[style].words} of {subject}" for subject in subjects]


def replacing(turn: Turn) -> Adapter:
    """An update that makes the plain mean equal `wanted` if honest devices change nothing."""
    return times(turn.wanted, turn.start, 1 / turn.share)


def replacing_quietly(turn: Turn) -> Adapter:
    """The update of `replacing`, no larger than a clip lets pass."""
    honest, wanted = changes_of([turn.honest, turn.wanted], [turn.start] * 2)
    return times(turn.wanted, turn.start, min(1 / turn.share, CLIP * norm(honest) / norm(wanted)))


ATTACKS: Mapping[str, Attack] = {
    "sign flip": Attack(lambda turn: times(turn.honest, turn.start, -1.0)),
    "scaled": Attack(lambda turn: times(turn.honest, turn.start, SCALED)),
    "random": Attack(lambda turn: noised(turn.honest, turn.start, NOISE, turn.seed)),
    "backdoor": Attack(replacing, poisoned=True),
    "quiet backdoor": Attack(replacing_quietly, poisoned=True),
}
