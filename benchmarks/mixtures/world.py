"""Adapters of the styles, and a subject of a pair of styles drawn and judged in every way."""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.mixtures.ways import WAYS
from benchmarks.shared.harness import KEPT
from benchmarks.shared.stickers import MODEL, base_id, generator
from edge_sdk import adapter as adapters
from edge_sdk.adapter import Adapter
from samples.demo.plan import GROUP_STYLES
from samples.demo.settings import LAYERS
from samples.stickers import data
from samples.stickers.data import Sticker
from samples.stickers.judge import GUIDANCE, Judge
from samples.stickers.styles import STYLES, plain_caption

PLACE = KEPT / "hybrids"
# The demo's.
RANK, BATCH_SIZE, LEARNING_RATE, STEPS = 8, 8, 1e-3, 15
Pair: TypeAlias = tuple[str, str]


@dataclass(frozen=True)
class Scale:
    """Amounts of training and drawing."""

    pictures: int
    training_steps: int
    pairs: tuple[Pair, ...]
    subjects: int
    seeds: int


FULL = Scale(48, 150, tuple(combinations(GROUP_STYLES, 2)), subjects=17, seeds=3)
QUICK = Scale(8, 10, FULL.pairs[:1], subjects=2, seeds=1)


def lesson(style: str, scale: Scale, seed: int) -> dict[str, Any]:
    """Everything that a style's adapter depends on."""
    return {
        "base": base_id(), "style": style, "pictures": scale.pictures, "steps": scale.training_steps, "rank": RANK,
        "batch_size": BATCH_SIZE, "rate": LEARNING_RATE, "layers": LAYERS, "captions": "both forms", "mirror": False,
        "seed": seed,
    }  # fmt: skip


def facts(pair: Pair, subject: Sticker, scale: Scale, seed: int, seeds: Sequence[int]) -> dict[str, Any]:
    """Everything that the result of a pair and subject depends on."""
    return {
        "lessons": [lesson(style, scale, seed) for style in pair], "subject": subject.subject, "seeds": list(seeds),
        "ways": {name: asdict(way) for name, way in WAYS.items()}, "draw_steps": STEPS, "guidance": GUIDANCE,
    }  # fmt: skip


def train(style: str, scale: Scale, seed: int) -> dict[str, Any]:
    """Train the adapter of a style; all start from the same initial factors, as in a federation."""
    from edge_sdk.training import Trainer

    file = adapters_file(style, scale, seed)
    began = time.perf_counter()
    if not file.exists():
        own = _of_style(style)
        chosen = [own[number] for number in data.spread(len(own), scale.pictures)]
        pictures = [Image.fromarray(pixels) for pixels in data.pictures(chosen)]
        captions = [sticker.text if at % 2 else plain_caption(sticker.subject) for at, sticker in enumerate(chosen)]
        trainer = Trainer(MODEL, list(zip(pictures, captions, strict=True)), mirror=False, threads=1)
        PLACE.mkdir(parents=True, exist_ok=True)
        result = trainer.train(
            steps=scale.training_steps, seed=seed, rank=RANK, batch_size=BATCH_SIZE, learning_rate=LEARNING_RATE,
            layers=LAYERS, checkpoint=file.with_suffix(".checkpoint"),
        )  # fmt: skip
        adapters.save(result.adapter, file)
        file.with_suffix(".checkpoint").unlink()
    return {"seconds": time.perf_counter() - began}


def adapters_file(style: str, scale: Scale, seed: int) -> Path:
    """File in which the adapter of a style is kept."""
    key = hashlib.sha256(json.dumps(lesson(style, scale, seed)).encode()).hexdigest()[:12]
    return PLACE / f"{style}-{key}.safetensors"


def run(pair: Pair, subject: Sticker, scale: Scale, seed: int, seeds: Sequence[int]) -> dict[str, Any]:
    """A subject of a pair in every way, which take turns so that their times can be compared.

    By way: for each picture "both" styles, the share of the "weaker" one and "subject"; and "picture_s".
    """
    judge, began = Judge(), time.perf_counter()
    styles = judge.styles.index(pair[0]), judge.styles.index(pair[1])
    found: dict[str, Any] = {}
    for name, (pictures, seconds) in drawn(pair, subject, scale, seed, seeds).items():
        both, weaker = pair_scores(judge.style_shares(pictures), styles)
        found[name] = {
            "both": both.tolist(),
            "weaker": weaker.tolist(),
            "subject": [float(named == subject.subgroup) for _, named in judge.name(pictures)],
            "picture_s": seconds / len(seeds),
        }
    return {"ways": found, "seconds": time.perf_counter() - began}


def drawn(
    pair: Pair, subject: Sticker, scale: Scale, seed: int, seeds: Sequence[int]
) -> dict[str, tuple[list[Image.Image], float]]:
    """Way -> its pictures, one for each seed, and the seconds that they took."""
    first, second = (_adapter(style, scale, seed) for style in pair)
    found = {}
    for name, way in WAYS.items():
        mix = way.mix(first, second)
        words = " and ".join(STYLES[style].words for style in pair) + " of " if way.in_words else ""
        # Open, choose and warm up everything before timing.
        generator().generate("a fox", steps=2, adapters=mix, hybrid=way.hybrid)
        began = time.perf_counter()
        pictures = generator().generate(
            words + plain_caption(subject.subject), seed=list(seeds), count=len(seeds), steps=STEPS, guidance=GUIDANCE,
            scheduler="ddim", adapters=mix, hybrid=way.hybrid,
        )  # fmt: skip
        found[name] = pictures, time.perf_counter() - began
    return found


def pair_scores(
    shares: npt.NDArray[np.float64], pair: tuple[int, int]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """For each row of style probabilities: 1 if the two largest are the pair's, and the smaller one of the pair's."""
    largest = np.sort(np.argsort(shares, axis=1)[:, -2:], axis=1)
    return (largest == sorted(pair)).all(axis=1).astype(np.float64), shares[:, list(pair)].min(axis=1)


def subjects(scale: Scale) -> list[Sticker]:
    """Subjects that all styles have and no adapter has learned, spread evenly from first to last."""
    styles: dict[str, list[Sticker]] = {}
    learned: set[str] = set()
    for style in GROUP_STYLES:
        own = _of_style(style)
        learned |= {own[number].subject for number in data.spread(len(own), scale.pictures)}
        for sticker in own:
            styles.setdefault(sticker.subject, []).append(sticker)
    common = [found[0] for name, found in styles.items() if len(found) == len(GROUP_STYLES) and name not in learned]
    return [common[number] for number in data.spread(len(common), scale.subjects)]


def _of_style(style: str) -> list[Sticker]:
    """Pictures that an adapter of a style may learn from."""
    return data.read(keep=lambda sticker: sticker.style == style and sticker.split == "train")


@functools.cache
def _adapter(style: str, scale: Scale, seed: int) -> Adapter:
    return adapters.load(adapters_file(style, scale, seed))
