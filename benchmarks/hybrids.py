"""Two styles in one picture: the hybrids of adapters, against averaging their factors and each adapter alone.

    python -m benchmarks.hybrids [--quick] [--seed N] [--json FILE] [--sheet FILE]

The stickers base model learns one adapter for each style that it does not know, with the demo's settings, from pictures
whose captions name the subject, and in every other one the style too. Every pair of styles is then drawn in every way,
with the same subjects, seeds and number of steps; the prompt names a subject that the base model knows and no adapter
has learned, in the ways "in words" after both styles ("A and B of a fox"). `samples.stickers.judge` scores the
pictures. The ways take turns at every subject, so that their times can be compared.

both_styles: the share of pictures whose two most likely styles, of all, are the pair; weaker_share: the mean
probability of the less likely one of the pair; subject_hit: the share whose subgroup is the subject's;
both_and_subject: the share with both, and its standard error over subjects.

Each subject of a pair is kept by its settings, in the system's temporary folder and in FILE: a stopped study resumes.
FILE has the subjects that are drawn in all pairs.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.mixtures import world
from benchmarks.mixtures.ways import AVERAGE, HYBRID_WAYS, WAYS
from benchmarks.mixtures.world import FULL, PLACE, QUICK, Pair, Scale
from benchmarks.shared import runs
from benchmarks.shared.harness import Arguments, Bar, Report, Row, arguments, standard_error
from benchmarks.shared.runs import Result, Run, key_of
from edge_sdk.pictures import save_picture
from samples.stickers.data import Sticker
from samples.stickers.styles import STYLES

# Far from the seeds of training and of the other benchmarks.
FIRST_SEED = 20_000


@dataclass(frozen=True)
class Cell:
    """A subject of a pair of styles."""

    pair: Pair
    subject: Sticker
    key: str

    @property
    def name(self) -> str:
        return f"{self.subject.subject}, {' and '.join(self.pair)}"


def main(given: Sequence[str] | None = None) -> None:
    """Measure and report."""
    assert __doc__ is not None
    chosen = arguments(__doc__.splitlines()[0], given, sheet=True)
    scale = QUICK if chosen.quick else FULL
    seeds = [FIRST_SEED + 1000 * chosen.seed + number for number in range(scale.seeds)]
    cells = [
        Cell(pair, subject, key_of(world.facts(pair, subject, scale, chosen.seed, seeds)))
        for subject in world.subjects(scale)
        for pair in scale.pairs
    ]
    styles = sorted({style for pair in scale.pairs for style in pair})
    lessons = [
        Run(style, key_of(world.lesson(style, scale, chosen.seed)), partial(world.train, style, scale, chosen.seed))
        for style in styles
        if not world.adapters_file(style, scale, chosen.seed).exists()
    ]
    runs.measured(lessons, PLACE / "lessons", None, "adapters")

    def on_result(results: Mapping[str, Result]) -> None:
        report(chosen, seeds, cells, results).write()

    work = [Run(c.name, c.key, partial(world.run, c.pair, c.subject, scale, chosen.seed, seeds)) for c in cells]
    results = runs.measured(work, PLACE / "results", chosen.json, "pictures", on_result)
    if chosen.sheet is not None:
        # 256 colours: a fifth of the size.
        save_picture(sheet(shown(cells, scale, chosen.seed, seeds)).quantize(256), chosen.sheet)
    report(chosen, seeds, cells, results).finish(hide="run")


def report(chosen: Arguments, seeds: Sequence[int], cells: Sequence[Cell], results: Mapping[str, Result]) -> Report:
    """A row for each way over the subjects that are drawn in all pairs, the bars, and every run."""
    made = Report(chosen, seeds)
    by_subject: dict[str, list[Cell]] = {}
    for cell in cells:
        by_subject.setdefault(cell.subject.subject, []).append(cell)
    whole = [found for found in by_subject.values() if all(cell.key in results for cell in found)]
    if whole:
        ways = {name: [[results[c.key]["ways"][name] for c in found] for found in whole] for name in WAYS}
        made.rows += [summary(name, found, ways["merge"]) for name, found in ways.items()]
        shares = {str(row["way"]): row for row in made.rows}
        made.bars += bars(shares)
    made.rows += [runs.run_row(c.key, results[c.key], row=c.name, seed=chosen.seed) for c in cells if c.key in results]
    return made


def bars(rows: Mapping[str, Row]) -> list[Bar]:
    """Bars of the best hybrid: over the average of factors, and by itself."""
    whole = {name: float(row["both_and_subject"] or 0) for name, row in rows.items()}
    best = max(HYBRID_WAYS, key=lambda name: whole[name])
    return [
        bar("both styles", {name: float(row["both_styles"] or 0) for name, row in rows.items()}),
        bar("both styles and the subject", whole),
        Bar(f"both styles and the subject: {best}, the best", whole[best], 0.3, "at least"),
    ]


def bar(what: str, shown: Mapping[str, float]) -> Bar:
    """Bar: the best hybrid shows this at least as often as the average of factors."""
    best = max(HYBRID_WAYS, key=lambda name: shown[name])
    return Bar(f"{what}: {best}, the best, over {AVERAGE}", shown[best] - shown[AVERAGE], 0.0, "at least")


def summary(name: str, found: Sequence[Sequence[Result]], merged: Sequence[Sequence[Result]]) -> Row:
    """Means of a way's results, by subject and pair; `merged` are those of "merge"."""
    both, subject, weaker = (
        [np.concatenate([cell[what] for cell in cells]) for cells in found] for what in ("both", "subject", "weaker")
    )
    whole = [float((b * s).mean()) for b, s in zip(both, subject, strict=True)]
    seconds = [cell["picture_s"] for cells in found for cell in cells]
    base = [cell["picture_s"] for cells in merged for cell in cells]
    return {
        "way": name,
        "both_styles": float(np.concatenate(both).mean()),
        "weaker_share": float(np.concatenate(weaker).mean()),
        "subject_hit": float(np.concatenate(subject).mean()),
        "both_and_subject": statistics.fmean(whole),
        "both_and_subject_se": standard_error(whole),
        "time_over_merge": statistics.median(own / other for own, other in zip(seconds, base, strict=True)),
        "picture_s": statistics.median(seconds),
        "pictures": sum(map(len, both)),
    }


def shown(cells: Sequence[Cell], scale: Scale, seed: int, seeds: Sequence[int]) -> dict[str, list[Image.Image]]:
    """For each pair a row of pictures, each pair with another subject, drawn again from the first seed."""
    found = {}
    for number, pair in enumerate(scale.pairs):
        own = [cell for cell in cells if cell.pair == pair]
        cell = own[number % len(own)]
        label = "\n".join([*(STYLES[style].words for style in pair), cell.subject.subject])
        drawn = world.drawn(pair, cell.subject, scale, seed, seeds[:1])
        found[label] = [pictures[0] for pictures, _ in drawn.values()]
    return found


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


if __name__ == "__main__":
    main()
