"""Federations of the stickers' device styles, whose captions name their style or not: real codes, real adapters.

A device has one of four styles, and 8 to 12 pictures of two or three kinds of subjects. Some devices say "black ink
stamp of a fox", the others "a fox". Prompt codes are made of their captions, picture codes of their pictures, by the
bundle of the stickers base model; without an image encoder there are no picture codes. An adapter has learnt its
device's pictures and captions alone, for as many steps as so many rounds have, from the start that all share in a first
round; no cluster's adapter comes between. Adapters are kept, so that a device that is in several federations learns
once. Everything random follows from the seed.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from benchmarks.shared.harness import KEPT
from benchmarks.shared.learnt import Learnt
from benchmarks.shared.stickers import MODEL, base_id, generator
from coordinator.learning import Standing, comparable, positions
from coordinator.methods.clustering import Evidence, Labels, Matrix
from edge_sdk.adapter import Bases, Share, left_basis
from edge_sdk.codes import basis_of
from edge_sdk.membership import RoundPlan
from edge_sdk.privacy import LEVELS, Coarse, Level, unit_length
from edge_sdk.training import Trainer, train_round
from samples.demo.plan import GROUP_STYLES, DevicePlan, deal
from samples.stickers import data
from samples.stickers.styles import plain_caption

LEARNT = KEPT / "clustering" / "learnt"
RANK, BATCH_SIZE, LEARNING_RATE = 8, 4, 3e-3
STEPS = 8  # of a round


class StickerFederation:
    """Devices with their captions, their codes and, once they have trained, their adapters.

    Args:
        devices: number of devices, of the four styles in turn.
        named: share of them whose captions name their style.
        seed: its seed; the first devices are the same in federations of all sizes, and so are those without a style.
        steps: steps of a round.

    Attributes:
        truth: (devices,) number of each device's style.
        captions: the captions of each device.
    """

    def __init__(self, devices: int, named: float, seed: int, steps: int = STEPS) -> None:
        self.truth: Labels = np.arange(devices) % len(GROUP_STYLES)
        self._plans = deal([GROUP_STYLES[style] for style in self.truth], seed)
        # Of every style, the first devices of every so many: half of them are every other one.
        turn = np.arange(devices) // len(GROUP_STYLES)
        names = np.floor((turn + 1) * named) > np.floor(turn * named)
        self.captions = [_captions(plan, bool(said)) for plan, said in zip(self._plans, names, strict=True)]
        self._seed, self._steps = seed, steps

    def evidence(self, level: str, rounds: int) -> Evidence:
        """The coordinator's evidence, from codes of a level, after so many rounds of training."""
        rng = np.random.default_rng([self._seed, len(self.truth)])
        encoder = LEVELS[level] if level != Coarse.name else Coarse(uniform=rng.random)
        seen = [Standing.SEEN] * len(self.truth)
        codes = comparable([self._prompt_code(encoder, own) for own in self.captions], seen, encoder)
        pictures = None
        if generator().encodes_pictures:
            made = [encoder.encode_pictures(_embedded_pictures(plan)) for plan in self._plans]
            pictures = positions(made, seen, encoder)
        bases: Sequence[Bases | None] = [None] * len(self.truth)
        if rounds:
            bases = [self._learnt(number, rounds) for number in range(len(self.truth))]
        return Evidence(codes, bases, rounds, pictures=pictures)

    def _prompt_code(self, level: Level, captions: Sequence[str]) -> bytes:
        return level.encode(np.stack([_embedded(caption) for caption in captions]), basis_of(generator()))

    def _learnt(self, device: int, rounds: int) -> Bases:
        """The left singular basis of what so many rounds' steps have changed."""
        plan, captions = self._plans[device], self.captions[device]
        files = [sticker.file_name for sticker in plan.pictures]
        work = RoundPlan(
            round=1, rounds=1, stage="cluster", cluster=0, frozen=(), start=None, share=Share.BOTH, layers="all",
            rank=RANK, seed=self._seed, steps=rounds * self._steps, batch_size=BATCH_SIZE,
            learning_rate=LEARNING_RATE, deadline=0.0,
        )  # fmt: skip
        kept = Learnt(LEARNT, [base_id(), files, captions])

        def trainer() -> Trainer:
            return _trainer().with_pictures(list(zip(data.images(list(plan.pictures)), captions, strict=True)))

        update = kept.update(work, lambda asked: train_round(trainer(), asked))
        return {name: basis[:, : update.adapter.rank] for name, basis in left_basis(update.adapter).items()}


def _captions(plan: DevicePlan, named: bool) -> list[str]:
    return [sticker.text if named else plain_caption(sticker.subject) for sticker in plan.pictures]


def _embedded_pictures(plan: DevicePlan) -> Matrix:
    return np.stack([_embedded_picture(sticker.file_name) for sticker in plan.pictures])


@functools.cache
def _embedded(caption: str) -> Matrix:
    """A caption's embedding at unit length, (dim,)."""
    vector: Matrix = unit_length(lambda part: generator().encode_prompt(part)[1], [caption])[0]
    return vector


@functools.cache
def _embedded_picture(file_name: str) -> Matrix:
    """A picture's embedding, (dim,)."""
    vector: Matrix = generator().encode_picture(data.images([_stickers()[file_name]]))[0].astype(np.float64)
    return vector


@functools.cache
def _stickers() -> dict[str, data.Sticker]:
    return {sticker.file_name: sticker for sticker in data.read()}


@functools.cache
def _trainer() -> Trainer:
    """The trainer whose UNet all devices share."""
    some = next(iter(_stickers().values()))
    return Trainer(MODEL, [(data.images([some])[0], some.text)], threads=1)
