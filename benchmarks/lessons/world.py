"""Owners of one style each, their lessons, and the pictures drawn after them."""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.lessons.arms import ROUNDS, Arm, Form, Kinds, Lesson
from benchmarks.shared.harness import KEPT
from benchmarks.shared.stickers import MODEL, base_id, bundle, generator
from coordinator.config import read_base_model, resolve
from coordinator.simulation import SimulatedDevice, simulate
from edge_sdk import adapter as adapters
from edge_sdk.adapter import Adapter
from edge_sdk.training import Guard, Trainer, train_round
from edge_sdk.wire import DeviceProfile
from samples.stickers import data
from samples.stickers.data import Sticker
from samples.stickers.judge import Judge
from samples.stickers.styles import STYLES, caption, plain_caption

PLACE = KEPT / "learning"
SUBJECT_GROUPS = 3  # kinds of subjects that an owner's pictures show
DRAW_STEPS, LEVELS = 15, 4
FIRST_SEED = 40_000  # far from those of training and of the other benchmarks
KNOWN = "soft"
Captioned = list[tuple[Image.Image, str]]


@dataclass(frozen=True)
class Owner:
    """An owner of pictures in one style.

    pictures: to learn from, of `SUBJECT_GROUPS` kinds of subjects; asked: pictures of the same kinds, or of all others,
    that nobody learns from, whose subjects are drawn.
    """

    style: str
    seed: int
    pictures: tuple[Sticker, ...]
    asked: tuple[Sticker, ...]


def owner(style: str, seed: int, count: int, asked: int, kinds: Kinds = "same") -> Owner:
    """The owner of a style and seed, with `count` pictures; one with more of them has other ones."""
    mine = data.read(keep=lambda sticker: sticker.style == style)
    rng = np.random.default_rng([seed, sorted(STYLES).index(style), count])
    groups = rng.choice(sorted({sticker.group for sticker in mine}), size=SUBJECT_GROUPS, replace=False).tolist()
    own = [s for s in mine if s.split == "train" and s.group in groups]
    others = [s for s in mine if s.split == "held-out" and (s.group in groups) == (kinds == "same")]
    return Owner(
        style,
        seed,
        tuple(own[at] for at in rng.choice(len(own), size=count, replace=False)),
        tuple(others[at] for at in data.spread(len(others), min(asked, len(others)))),
    )


def facts(arm: Arm, one: Owner) -> dict[str, Any]:
    """Everything that the result of an arm depends on."""
    by_others = {"newcomer": True} if arm.newcomer else {}
    return by_others | {
        "base": base_id(), "lesson": asdict(arm.lesson) if arm.lesson else None, "drawing": asdict(arm.drawing),
        "pictures": [s.file_name for s in one.pictures], "asked": [s.file_name for s in one.asked], "seed": one.seed,
        "draw_steps": DRAW_STEPS, "levels": LEVELS,
    }  # fmt: skip


def run(arm: Arm, style: str, seed: int, count: int, asked: int) -> dict[str, Any]:
    """One arm with one owner: hits of style and subject for each picture drawn, the held-out loss, and seconds."""
    one = owner(style, seed, count, asked, arm.kinds)
    adapter, seconds, kept_step = None, 0.0, 0
    if arm.lesson:
        # Neighbouring seeds are each other's others: their federations have no device in common.
        learner = owner(style, seed ^ 1, count, 0) if arm.newcomer else one
        adapter, seconds, kept_step = _taught(arm.lesson, learner)
        if arm.newcomer:
            seconds = 0.0
    named = Judge().name(_drawn(arm, one, adapter))
    return {
        "style": [name[0] == style for name in named],
        "subject": [name[1] == sticker.subgroup for name, sticker in zip(named, one.asked, strict=True)],
        "loss": _loss(adapter, one),
        "seconds": seconds,
        "kept_step": kept_step,
    }


def _together(lesson: Lesson, one: Owner) -> Adapter:
    """The cluster adapter of a federation of the owner's style."""
    group = [one, *(owner(one.style, 1000 * n + one.seed, len(one.pictures), 0) for n in range(1, lesson.devices))]
    keys = {
        "name": "lesson", "slots": "impasto.json", "rounds": ROUNDS, "steps": lesson.steps // ROUNDS,
        "batch_size": lesson.batch_size, "learning_rate": lesson.learning_rate, "layers": lesson.layers,
        "rank": lesson.rank, "seed": one.seed, "clustering": {"method": "single"}, "interaction": {"method": "none"},
        "privacy": "plain", "allow_plain": True,
    }  # fmt: skip
    devices, base = {}, read_base_model(bundle() / "impasto.json", lesson.layers)
    # All are of one cluster, whatever their codes say.
    code = bytes(4 * (base.code_dimensions or 1))
    for number, each in enumerate(group):
        trainer = Trainer(MODEL, _captioned(each.pictures, lesson.captions), mirror=lesson.mirror, threads=1)
        profile = DeviceProfile(base_id=base_id(), prompt_code=code, pictures=len(each.pictures), max_rank=lesson.rank)
        devices[f"device-{number}"] = SimulatedDevice(profile, functools.partial(train_round, trainer))
    outcomes = simulate(resolve(keys, folder=Path()), base, devices)
    return outcomes["device-0"].adapters["cluster"]


def _alone(lesson: Lesson, one: Owner) -> tuple[Adapter, int]:
    """The adapter of a lesson of one device, and the step that it is of."""
    kept_back = len(one.pictures) // 6 if lesson.guarded else 0
    own = _captioned(one.pictures[kept_back:], lesson.captions) + _prior(lesson.prior)
    trainer = Trainer(
        MODEL, own, mirror=lesson.mirror, caption_dropout=lesson.caption_dropout, layers=lesson.layers, threads=1
    )
    guard = Guard(_captioned(one.pictures[:kept_back], "style")) if kept_back else None
    result = trainer.train(
        steps=lesson.steps, seed=one.seed, rank=lesson.rank, batch_size=lesson.batch_size,
        learning_rate=lesson.learning_rate, guard=guard,
    )  # fmt: skip
    return result.adapter, result.kept_step


def _taught(lesson: Lesson, one: Owner) -> tuple[Adapter, float, int]:
    """The adapter of a lesson, the seconds that it took, and the step that it is of; kept for other ways of drawing."""
    about = [base_id(), asdict(lesson), [s.file_name for s in one.pictures], one.seed]
    file = PLACE / f"{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:20]}.safetensors"
    noted = file.with_suffix(".json")
    if not noted.exists():
        began = time.perf_counter()
        adapter, step = (_together(lesson, one), lesson.steps) if lesson.devices > 1 else _alone(lesson, one)
        PLACE.mkdir(parents=True, exist_ok=True)
        adapters.save(adapter, file)
        noted.write_text(json.dumps([time.perf_counter() - began, step]), "utf-8")
    seconds, kept_step = json.loads(noted.read_text("utf-8"))
    return adapters.load(file), seconds, kept_step


def _drawn(arm: Arm, one: Owner, adapter: Adapter | None) -> list[Image.Image]:
    shown = arm.drawing
    return [
        picture
        for number, sticker in enumerate(one.asked)
        for picture in generator().generate(
            _asked_for(sticker, shown.caption),
            seed=FIRST_SEED + 1000 * one.seed + number,
            steps=DRAW_STEPS,
            guidance=shown.guidance,
            adapters=[(adapter, shown.weight)] if adapter else [],
            hybrid=shown.hybrid,
        )
    ]


def _loss(adapter: Adapter | None, one: Owner) -> float:
    """Mean denoising loss on the pictures asked for, always at the same noise."""
    return _judging_trainer().evaluate(
        [(adapter, 1.0)] if adapter else [], _captioned(one.asked, "style"), seed=0, levels=LEVELS
    )


def _asked_for(sticker: Sticker, form: str) -> str:
    if form == "plain":
        return plain_caption(sticker.subject)
    return caption(STYLES[KNOWN if form == "known" else sticker.style], sticker.subject)


def _captioned(stickers: Sequence[Sticker], form: Form) -> Captioned:
    images = [Image.fromarray(pixels) for pixels in data.pictures(list(stickers))] if stickers else []
    forms = ("style", "plain") if form == "both" else (form,)
    return [(image, _asked_for(s, each)) for each in forms for image, s in zip(images, stickers, strict=True)]


def _prior(count: int) -> Captioned:
    """Drawings of the base model, of subjects spread over all that it knows."""
    if not count:
        return []
    subjects = sorted({s.subject for s in data.read(keep=lambda s: s.style == KNOWN)})
    captions = [plain_caption(subjects[at]) for at in data.spread(len(subjects), count)]
    drawn = (generator().generate(text, seed=number, steps=DRAW_STEPS) for number, text in enumerate(captions))
    return [(pictures[0], text) for pictures, text in zip(drawn, captions, strict=True)]


@functools.cache
def _judging_trainer() -> Trainer:
    """A trainer that trains nothing; it is used for losses only."""
    return Trainer(MODEL, [(Image.new("RGB", (64, 64)), "nothing")], mirror=False, threads=1)
