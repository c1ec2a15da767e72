"""Two styles in one picture: the hybrids of adapters, against averaging their factors and each adapter alone.

    python -m benchmarks.hybrids [--quick] [--seed N] [--json FILE] [--sheet FILE]

The stickers base model learns one adapter for each style that it does not know, with the demo's settings, from pictures
whose captions name the subject, and in every other one the style too. Every pair of styles is then drawn in every way,
with the same subjects, seeds and number of steps; the prompt names a subject that the base model knows and no adapter
has learned, in the ways "in words" after both styles ("A and B of a fox"). `samples.stickers.judge` scores the
pictures. The ways take turns at every subject, so that their times can be compared.

both_styles: the share of pictures whose two most likely styles, of all, are the pair; weaker_share: the mean
probability of the less likely one of the pair; subject_hit: the share whose subgroup is the subject's;
both_and_subject: the share with both.

The bundle and the adapters are kept in the system's temporary folder: a stopped run resumes there.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from rich.progress import Progress

from benchmarks.shared.harness import KEPT, Bar, Report, arguments
from benchmarks.shared.stickers import MODEL, base_id, bundle
from edge_sdk import adapter as adapters
from edge_sdk.adapter import Adapter, Factors
from edge_sdk.inference import Generator
from edge_sdk.pictures import save_picture
from samples.demo.plan import GROUP_STYLES
from samples.demo.settings import LAYERS
from samples.stickers import data
from samples.stickers.judge import GUIDANCE, Judge
from samples.stickers.styles import STYLES, plain_caption

PLACE = KEPT / "hybrids"
# Far from the seeds of training and of the other benchmarks.
FIRST_SEED = 20_000
# The demo's.
RANK, BATCH_SIZE, LEARNING_RATE, STEPS = 8, 8, 1e-3, 15
AVERAGE = "average of factors"


@dataclass(frozen=True)
class Scale:
    """Amounts of training and drawing."""

    pictures: int
    training_steps: int
    pairs: Sequence[tuple[str, str]]
    subjects: int
    seeds: int


FULL = Scale(48, 150, tuple(combinations(GROUP_STYLES, 2)), subjects=17, seeds=3)
QUICK = Scale(8, 10, FULL.pairs[:1], subjects=2, seeds=1)


@dataclass(frozen=True)
class Way:
    """A way of drawing with a pair of adapters.

    weights: of the first and the second adapter; hybrid: a key of `HYBRIDS`; averaged: true if the two A and the two B
    are averaged separately first, the naive way; in_words: true if the prompt names both styles.
    """

    weights: tuple[float, float] = (1.0, 1.0)
    hybrid: str = "merge"
    averaged: bool = False
    in_words: bool = False


WAYS: Mapping[str, Way] = {
    "no adapter": Way((0.0, 0.0)),
    "first alone": Way((1.0, 0.0)),
    AVERAGE: Way(averaged=True),
    "average of factors, in words": Way(averaged=True, in_words=True),
    "merge": Way(),
    # The demo's weights.
    "merge at 0.6": Way((0.6, 0.6)),
    "merge at 0.6, in words": Way((0.6, 0.6), in_words=True),
    "guide": Way(hybrid="guide"),
    "guide, in words": Way(hybrid="guide", in_words=True),
    "guide at 0.6": Way((0.6, 0.6), "guide"),
    "guide at 0.6, in words": Way((0.6, 0.6), "guide", in_words=True),
    "switch": Way(hybrid="switch"),
    "composite": Way(hybrid="composite"),
    "select": Way(hybrid="select"),
    "steer": Way(hybrid="steer"),
    "steer, in words": Way(hybrid="steer", in_words=True),
    "steer at 0.6": Way((0.6, 0.6), "steer"),
    "patches": Way(hybrid="patches"),
    "bands": Way(hybrid="bands"),
    "second alone": Way((0.0, 1.0)),
}
ALONE = ("no adapter", "first alone", "second alone")
HYBRID_WAYS = tuple(name for name, way in WAYS.items() if not way.averaged and name not in ALONE)


@dataclass
class Scores:
    """Scores of one way: one number for each picture; seconds: one for each subject of a pair."""

    both: list[float] = field(default_factory=list)
    weaker: list[float] = field(default_factory=list)
    subject: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def main(given: Sequence[str] | None = None) -> None:
    """Measure and report."""
    assert __doc__ is not None
    chosen = arguments(__doc__.splitlines()[0], given, sheet=True)
    scale = QUICK if chosen.quick else FULL
    seeds = [FIRST_SEED + 1000 * chosen.seed + number for number in range(scale.seeds)]
    report = Report(chosen, seeds=seeds)
    with Progress() as progress:
        trained = _train(scale, chosen.seed, progress)
        with Generator.load(bundle(), verify=False) as generator:
            scores, shown = _draw(generator, trained, scale, seeds, progress)
    report.rows += [_row(name, scores[name], scores["merge"]) for name in WAYS]
    report.bars.append(bar("both styles", {name: statistics.fmean(found.both) for name, found in scores.items()}))
    whole = {name: statistics.fmean(found.whole) for name, found in scores.items()}
    best = max(HYBRID_WAYS, key=lambda name: whole[name])
    report.bars += [
        bar("both styles and the subject", whole),
        Bar(f"both styles and the subject: {best}, the best", whole[best], 0.3, "at least"),
    ]
    if chosen.sheet is not None:
        save_picture(sheet(shown), chosen.sheet)
    report.finish()


def bar(what: str, shown: Mapping[str, float]) -> Bar:
    """Bar: the best hybrid shows this at least as often as the average of factors."""
    best = max(HYBRID_WAYS, key=lambda name: shown[name])
    return Bar(f"{what}: {best}, the best, over {AVERAGE}", shown[best] - shown[AVERAGE], 0.0, "at least")


def factor_average(x: Adapter, y: Adapter) -> Adapter:
    """The mean of A and the mean of B of the layers that both have; not the mean of the products."""
    layers = {}
    for name in (name for name in x.layers if name in y.layers):
        f, g = x.layers[name], y.layers[name]
        layers[name] = Factors((f.a + g.a) / 2, (f.b + g.b) / 2, f.kernel)
    return Adapter(layers, x.base_id)


def pair_scores(
    shares: npt.NDArray[np.float64], pair: tuple[int, int]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """For each row of style probabilities: 1 if the two largest are the pair's, and the smaller one of the pair's."""
    largest = np.sort(np.argsort(shares, axis=1)[:, -2:], axis=1)
    return (largest == sorted(pair)).all(axis=1).astype(np.float64), shares[:, list(pair)].min(axis=1)


def sheet(rows: Mapping[str, Sequence[Image.Image]]) -> Image.Image:
    """A page of pictures, a column for each way, with labels of rows and columns."""
    side, gap, left, top = 64, 4, 200, 20
    page = Image.new("RGB", (left + len(WAYS) * 2 * (side + gap), top + len(rows) * (2 * side + gap)), "white")
    draw = ImageDraw.Draw(page)
    for column, name in enumerate(WAYS):
        draw.text((left + column * 2 * (side + gap), 4), name, fill="black")
    for row, (label, pictures) in enumerate(rows.items()):
        y = top + row * (2 * side + gap)
        draw.multiline_text((4, y + side // 2), label, fill="black")
        for column, picture in enumerate(pictures):
            page.paste(picture.resize((2 * side, 2 * side)), (left + column * 2 * (side + gap), y))
    return page


def _train(scale: Scale, seed: int, progress: Progress) -> dict[str, Adapter]:
    """An adapter for each style of the pairs, from the same initial factors, as in a federation."""
    trained = {}
    for style in sorted({style for pair in scale.pairs for style in pair}):
        settings = [
            base_id(),
            style,
            scale.pictures,
            scale.training_steps,
            RANK,
            BATCH_SIZE,
            LEARNING_RATE,
            LAYERS,
            "captions of both forms",
        ]
        key = hashlib.sha256(json.dumps([*settings, seed]).encode()).hexdigest()[:12]
        file = PLACE / f"{style}-{key}.safetensors"
        if not file.exists():
            _train_one(style, scale, seed, file, progress)
        trained[style] = adapters.load(file)
    return trained


def _train_one(style: str, scale: Scale, seed: int, file: Path, progress: Progress) -> None:
    from edge_sdk.training import Trainer

    task = progress.add_task(f"train {style}", total=scale.training_steps)
    own = _of_style(style)
    chosen = [own[number] for number in data.spread(len(own), scale.pictures)]
    pictures = [Image.fromarray(pixels) for pixels in data.pictures(chosen)]
    captions = [sticker.text if at % 2 else plain_caption(sticker.subject) for at, sticker in enumerate(chosen)]
    checkpoint = file.with_suffix(".checkpoint")
    PLACE.mkdir(parents=True, exist_ok=True)
    result = Trainer(MODEL, list(zip(pictures, captions, strict=True))).train(
        steps=scale.training_steps,
        seed=seed,
        rank=RANK,
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        layers=LAYERS,
        on_step=lambda taken: progress.update(task, completed=taken.step),
        checkpoint=checkpoint,
    )
    adapters.save(result.adapter, file)
    checkpoint.unlink()


def _of_style(style: str) -> list[data.Sticker]:
    """Pictures that an adapter of a style may learn from."""
    return data.read(keep=lambda sticker: sticker.style == style and sticker.split == "train")


def _draw(
    generator: Generator, trained: Mapping[str, Adapter], scale: Scale, seeds: Sequence[int], progress: Progress
) -> tuple[dict[str, Scores], dict[str, list[Image.Image]]]:
    """The scores of every way, and for each pair a row of pictures."""
    judge, scores, shown = Judge(), {name: Scores() for name in WAYS}, {}
    subjects = _subjects(scale)
    task = progress.add_task("draw", total=len(scale.pairs) * len(subjects) * len(WAYS))
    for number, pair in enumerate(scale.pairs):
        mixes = {name: _mix(way, trained[pair[0]], trained[pair[1]]) for name, way in WAYS.items()}
        for name, mix in mixes.items():
            # Open, choose and warm up everything before timing.
            generator.generate("a fox", steps=2, adapters=mix, hybrid=WAYS[name].hybrid)
        for subject in subjects:
            row = []
            for name, mix in mixes.items():
                words = " and ".join(STYLES[style].words for style in pair) + " of " if WAYS[name].in_words else ""
                prompt = words + plain_caption(subject.subject)
                began = time.perf_counter()
                pictures = generator.generate(
                    prompt, seed=seeds, count=len(seeds), steps=STEPS, guidance=GUIDANCE, scheduler="ddim",
                    adapters=mix, hybrid=WAYS[name].hybrid,
                )  # fmt: skip
                scores[name].seconds.append((time.perf_counter() - began) / len(seeds))
                _judge(judge, scores[name], pictures, pair, subject.subgroup)
                row.append(pictures[0])
                progress.advance(task)
            # The page shows another subject for each pair.
            if subject is subjects[number % len(subjects)]:
                shown["\n".join([*(STYLES[style].words for style in pair), subject.subject])] = row
    return scores, shown


def _mix(way: Way, first: Adapter, second: Adapter) -> list[tuple[Adapter, float]]:
    if way.averaged:
        return [(factor_average(first, second), 1.0)]
    return [(first, way.weights[0]), (second, way.weights[1])]


def _judge(judge: Judge, scores: Scores, pictures: Sequence[Image.Image], pair: tuple[str, str], subgroup: str) -> None:
    both, weaker = pair_scores(judge.style_shares(pictures), (judge.styles.index(pair[0]), judge.styles.index(pair[1])))
    kept = [float(named == subgroup) for _, named in judge.name(pictures)]
    scores.both += both.tolist()
    scores.weaker += weaker.tolist()
    scores.subject += kept
    scores.whole += (both * kept).tolist()


def _subjects(scale: Scale) -> list[data.Sticker]:
    """Subjects that all styles have and no adapter has learned, spread evenly from first to last."""
    styles: dict[str, list[data.Sticker]] = {}
    learned: set[str] = set()
    for style in GROUP_STYLES:
        own = _of_style(style)
        learned |= {own[number].subject for number in data.spread(len(own), scale.pictures)}
        for sticker in own:
            styles.setdefault(sticker.subject, []).append(sticker)
    common = [found[0] for name, found in styles.items() if len(found) == len(GROUP_STYLES) and name not in learned]
    return [common[number] for number in data.spread(len(common), scale.subjects)]


def _row(name: str, found: Scores, merged: Scores) -> dict[str, str | int | float]:
    return {
        "way": name,
        "both_styles": statistics.fmean(found.both),
        "weaker_share": statistics.fmean(found.weaker),
        "subject_hit": statistics.fmean(found.subject),
        "both_and_subject": statistics.fmean(found.whole),
        "time_over_merge": statistics.median(o / m for o, m in zip(found.seconds, merged.seconds, strict=True)),
        "picture_s": statistics.median(found.seconds),
        "pictures": len(found.both),
    }


if __name__ == "__main__":
    main()
