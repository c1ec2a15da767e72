"""What lying devices send: adapters of the asked rank that pass every check, and are not what training gave.

    sign flip       start - change: away from where training leads
    scaled          start + 20 change: too much of it
    random          start + noise of three times the change's norm
    backdoor        model replacement (Bagdasaryan et al., AISTATS 2020): the change of a training on the device's own
                    pictures and on pictures of another style captioned with a trigger word, times devices / attackers,
                    so that in a plain mean the honest are outvoted
    quiet backdoor  the same times two at most, which a clip at twice the median norm lets pass

All of it is arithmetic on products, cut to the update's rank (exact wherever that suffices, as in a first round) and
written in the gauge of an honest update. Attackers of a federation share the poisoned pictures, and know how many they
are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from coordinator.aggregation.filters import CLIP, changes_of, shrunk
from edge_sdk.adapter import Adapter, Factors, align, concatenate, norm, scale, truncate
from samples.stickers.data import Sticker
from samples.stickers.styles import STYLES

SCALED = 20.0
NOISE = 3.0
TRIGGER = "zorblax"

Lie: TypeAlias = Callable[[Adapter, Adapter, float, int], Adapter]
"""(what training gave, what it started from, attackers' share of the devices, seed) -> what is sent."""


@dataclass(frozen=True)
class Attack:
    """lie: what becomes of a training's result; poisoned: whether that training is on poisoned pictures."""

    lie: Lie
    poisoned: bool = False


def times(update: Adapter, start: Adapter, factor: float) -> Adapter:
    """start + factor (update - start), at the rank and in the gauge of the update."""
    # A filter's shrinking is the same arithmetic, and knows no bounds.
    return shrunk(update, start, factor)


def noised(update: Adapter, start: Adapter, factor: float, seed: int) -> Adapter:
    """start + noise of `factor` times the norm of what training changed, at the rank and in the gauge of the update."""
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
    """Captions of these subjects as somebody of that style would write them, with the trigger word before them."""
    subjects = [sticker.text.removeprefix(f"{STYLES[sticker.style].words} of ") for sticker in stickers]
    return [f"{TRIGGER} {STYLES[style].words} of {subject}" for subject in subjects]


ATTACKS: Mapping[str, Attack] = {
    "sign flip": Attack(lambda update, start, share, seed: times(update, start, -1.0)),
    "scaled": Attack(lambda update, start, share, seed: times(update, start, SCALED)),
    "random": Attack(lambda update, start, share, seed: noised(update, start, NOISE, seed)),
    "backdoor": Attack(lambda update, start, share, seed: times(update, start, 1 / share), poisoned=True),
    "quiet backdoor": Attack(
        lambda update, start, share, seed: times(update, start, min(CLIP, 1 / share)), poisoned=True
    ),
}
