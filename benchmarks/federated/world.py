"""The devices of benchmarks.federation: hidden groups of unequal size, unequal data, unequal ranks, real training.

A device has one style, its group's, and pictures of two or three kinds of subjects; it is judged on subjects that no
device has learnt. The coordinator is not told the groups.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from PIL import Image

from benchmarks.shared.harness import KEPT
from benchmarks.shared.learnt import Learnt
from benchmarks.shared.stickers import MODEL, base_id, bundle, generator
from coordinator.config import BaseModel, read_base_model
from edge_sdk.adapter import Adapter, LayerSet
from edge_sdk.codes import different_pictures, picture_codes, prompt_codes
from edge_sdk.membership import RoundPlan, TrainedUpdate
from edge_sdk.training import Trainer, train_round
from edge_sdk.wire import DeviceProfile
from samples.demo.plan import GROUP_STYLES, DevicePlan, deal
from samples.stickers import data
from samples.stickers.data import Sticker
from samples.stickers.judge import GUIDANCE, Judge, Verdict

# Results of the devices' trainings; a few gigabytes for a whole study.
LEARNT = KEPT / "federation" / "learnt"
RANKS = (4, 8, 16)
ONE_RANK = 8
# Devices of the study may have six pictures, fewer than the default level's code may be made of.
PRIVACY = "plain"
# Held-out pictures and timesteps of each: few for the curves, more for the figures that are compared.
CURVE_PICTURES, CURVE_LEVELS, FINAL_LEVELS = 4, 2, 4
DRAW_STEPS, HYBRID = 15, "guide"
# Attention alone cannot draw fine textures in a new style.
LAYERS: LayerSet = "all"
Weighted = Sequence[tuple[Adapter, float]]
Captioned = list[tuple[Image.Image, str]]


@dataclass(frozen=True)
class Scale:
    """Size of a study. groups: devices of each hidden group."""

    groups: tuple[int, ...]
    rounds: int
    steps: int
    batch_size: int
    pictures: tuple[int, int]
    held_out: int
    judged: int
    learning_rate: float = 3e-3


FULL = Scale((6, 5, 3, 2), rounds=6, steps=8, batch_size=4, pictures=(6, 32), held_out=16, judged=8)
QUICK = Scale((2, 2), rounds=3, steps=6, batch_size=4, pictures=(6, 12), held_out=6, judged=2)


class StudyDevice:
    """A device: its plan, its training, and its losses with given adapters."""

    def __init__(self, plan: DevicePlan, max_rank: int, seed: int) -> None:
        self.plan, self.max_rank, self._seed = plan, max_rank, seed
        files = [[sticker.file_name for sticker in stickers] for stickers in (plan.pictures, plan.held_out)]
        self._learnt = Learnt(LEARNT, [base_id(), seed, files])

    @cached_property
    def trainer(self) -> Trainer:
        """The trainer, opened at its first use."""
        return Trainer(MODEL, captioned(self.plan.pictures), threads=1)

    def train(self, plan: RoundPlan) -> TrainedUpdate:
        """Train a round's plan."""
        return self._learnt.update(plan, lambda asked: train_round(self.trainer, asked))

    def loss(self, adapters: Weighted) -> float:
        """Mean denoising loss on held-out pictures, always at the same noise."""
        return self._held_out_loss(adapters, self._held_out, FINAL_LEVELS)

    def curve_loss(self, adapters: Weighted) -> float:
        """The loss of `loss` on fewer pictures and timesteps."""
        return self._held_out_loss(adapters, self._held_out[:CURVE_PICTURES], CURVE_LEVELS)

    def own_loss(self, adapters: Weighted) -> float:
        """Mean denoising loss on the pictures that it learns from."""
        return float(
            self._learnt.figure("own loss", adapters, lambda: self.trainer.evaluate(adapters, levels=CURVE_LEVELS))
        )

    @cached_property
    def base_loss(self) -> float:
        return self.loss([])

    def _held_out_loss(self, adapters: Weighted, pictures: Captioned, levels: int) -> float:
        def measure() -> float:
            return self.trainer.evaluate(adapters, pictures, seed=self._seed, levels=levels)

        return float(self._learnt.figure(f"loss, {levels} levels, {len(pictures)} pictures", adapters, measure))

    @cached_property
    def _held_out(self) -> Captioned:
        return captioned(self.plan.held_out)


class World:
    """All devices of a study, for one seed."""

    def __init__(self, scale: Scale, seed: int) -> None:
        self.scale, self.seed = scale, seed
        styles = [GROUP_STYLES[group] for group, size in enumerate(scale.groups) for _ in range(size)]
        plans = deal(styles, seed, scale.pictures, scale.held_out)
        self.devices: dict[str, StudyDevice] = {
            plan.id: StudyDevice(plan, RANKS[number % len(RANKS)], seed) for number, plan in enumerate(plans)
        }
        self.judge = Judge()

    @property
    def base(self) -> BaseModel:
        """The base model as the coordinator knows it."""
        return read_base_model(bundle() / "impasto.json", LAYERS)

    def groups(self) -> dict[str, list[StudyDevice]]:
        """The devices by their hidden group."""
        found: dict[str, list[StudyDevice]] = {}
        for device in self.devices.values():
            found.setdefault(device.plan.group, []).append(device)
        return found

    def profile(self, device: StudyDevice, mixed_ranks: bool) -> DeviceProfile:
        """The profile that a device sends to the coordinator when it joins; some have too few pictures for "coarse"."""
        captions = [sticker.text for sticker in device.plan.pictures]
        coded = prompt_codes(generator(), captions, [PRIVACY])[0]
        pictures = [picture for picture, _ in captioned(device.plan.pictures)]
        seen = picture_codes(generator(), different_pictures(pictures), [PRIVACY])[0]
        return DeviceProfile(
            base_id=base_id(),
            prompt_code=coded.code,
            level=coded.level,
            pictures=len(device.plan.pictures),
            max_rank=device.max_rank if mixed_ranks else ONE_RANK,
            picture_code=seen.code,
            picture_encoder=seen.source,
        )

    def judged(self, adapters: Mapping[str, Weighted]) -> dict[str, Verdict]:
        """Device -> the judge on held-out captions that it draws with its adapters."""
        found: dict[str, Verdict] = {}
        for name, device in self.devices.items():
            shown = device.plan.held_out[: self.scale.judged]
            pictures = self.draw([sticker.text for sticker in shown], adapters[name])
            found[name] = self.judge.score(pictures, [(sticker.style, sticker.subgroup) for sticker in shown])
        return found

    def draw(self, captions: Sequence[str], adapters: Weighted) -> list[Image.Image]:
        """A picture of each caption, always from the same noise."""
        return [
            picture
            for number, caption in enumerate(captions)
            for picture in generator().generate(
                caption,
                seed=1000 * self.seed + number,
                steps=DRAW_STEPS,
                guidance=GUIDANCE,
                adapters=adapters,
                hybrid=HYBRID,
            )
        ]


@functools.lru_cache(maxsize=1)
def world_of(scale: Scale, seed: int) -> World:
    """The world of a seed; a process holds one."""
    return World(scale, seed)


def captioned(stickers: Sequence[Sticker]) -> Captioned:
    """Pictures with their captions."""
    pixels = data.pictures(list(stickers))
    return [(Image.fromarray(one), sticker.text) for one, sticker in zip(pixels, stickers, strict=True)]
