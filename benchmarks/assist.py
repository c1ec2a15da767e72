"""Assisted drawing: hits, seconds and bytes against drawing alone, and helpers that fail.

    python -m benchmarks.assist [--quick] [--seed N] [--json FILE]

Pictures: the adapters of benchmarks.hybrids, one for each style that the stickers model does not know, are once the
federation's, which a helper has too, and once the device's own leaf. A subject that no adapter has learnt is drawn by
the device alone, alone with as many steps as an assisted drawing leaves to it, and from the half that a helper has
drawn, in both forms, with several numbers of steps. `samples.stickers.judge` scores the pictures; rows are compared
picture by picture with those that the device draws alone.

Seconds: a device on a share of one core (a control group of version 1, if this user can make one), a helper on
another core, and a broker, each a process (the broker is this one's). The federation learns first, in earnest, for the
device's key and the helper's adapters. Rows take turns. Then helpers fail, each in a picture that is compared with one
alone just before it. "bk-sdm-tiny" has random weights.

Pictures of a subject in a style, and the rows of a model, are kept by their settings in the system's temporary folder,
pictures also in FILE: a stopped study resumes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.assisted import pictures, times
from benchmarks.assisted.pictures import Study
from benchmarks.assisted.times import Model
from benchmarks.families.architectures import ARCHITECTURES
from benchmarks.mixtures import world
from benchmarks.mixtures.world import PLACE as LESSONS
from benchmarks.shared import runs
from benchmarks.shared.harness import KEPT, Arguments, Report, Row, arguments, cached
from benchmarks.shared.runs import Result, Run, key_of
from benchmarks.shared.stickers import bundle, generator
from samples.stickers.data import Sticker

PLACE = KEPT / "assist"
_SHAPES = "bk-sdm-tiny"


@dataclass(frozen=True)
class Cell:
    """A subject in a style."""

    style: str
    subject: Sticker
    key: str

    @property
    def name(self) -> str:
        return f"{self.subject.subject}, {self.style}"


def main(given: Sequence[str] | None = None) -> None:
    """Measure and report."""
    assert __doc__ is not None
    chosen = arguments(__doc__.splitlines()[0], given)
    study = pictures.QUICK if chosen.quick else pictures.FULL
    timed: list[Row] = [row for model in models(chosen) for row in rows_of(model, chosen)]
    cells = cells_of(study, chosen.seed)
    _teach(study, chosen.seed)

    def on_result(results: Mapping[str, Result]) -> None:
        report(chosen, study, cells, results, timed).write()

    work = [Run(c.name, c.key, partial(pictures.run, c.style, c.subject, study, chosen.seed)) for c in cells]
    results = runs.measured(work, PLACE / "results", chosen.json, "pictures", on_result)
    report(chosen, study, cells, results, timed).finish(hide="run")


def cells_of(study: Study, seed: int) -> list[Cell]:
    """The cells, all styles of a subject one after the other."""
    return [
        Cell(style, subject, key_of(pictures.facts(style, subject, study, seed)))
        for subject in pictures.subjects(study)
        for style in study.styles
    ]


def _teach(study: Study, seed: int) -> None:
    """Train the styles' adapters, as far as they are not kept."""
    lessons = [
        Run(style, key_of(world.lesson(style, study.lessons, seed)), partial(world.train, style, study.lessons, seed))
        for style in study.styles
        if not world.adapters_file(style, study.lessons, seed).exists()
    ]
    runs.measured(lessons, LESSONS / "lessons", None, "adapters")


def models(chosen: Arguments) -> list[Model]:
    """The models whose seconds are measured."""
    if chosen.quick:
        return [Model("stickers", bundle, 64, "full", 0.5, 1, 1, ("killed while it draws", "answers NaN"), steps=6)]
    return [
        Model("stickers", bundle, 64, "full", 0.125, turns=5, faults=3),
        Model(
            _SHAPES, partial(shapes, chosen.seed), 128, "quick", 0.25, 1, 1, ("takes the request and never draws",),
            steps=10, rows=("all local", "open to 5", "open, auto"),
        ),
    ]  # fmt: skip


def rows_of(model: Model, chosen: Arguments) -> list[Row]:
    """The rows of a model: measured now, or kept from an earlier full run."""
    if chosen.quick:
        return times.measured(model, chosen.seed)
    settings = {name: value for name, value in vars(model).items() if name != "bundle"}
    key = key_of({**settings, "seed": chosen.seed})
    found: list[Row] = cached(PLACE / f"{model.name}-{key}.json", lambda: times.measured(model, chosen.seed))
    return found


def shapes(seed: int) -> Path:
    """The bundle of BK-SDM-Tiny's shapes, with random weights and a quick decoder; made at the first call."""
    from benchmarks.families.base_models import write_model, write_preview
    from export import export_model

    place = PLACE / _SHAPES
    if not (place / "bundle").exists():
        write_model(place / "model", ARCHITECTURES[_SHAPES], half=True, seed=seed)
        write_preview(place / "preview")
        export_model(place / "model", place / "bundle", preview=place / "preview", verify=False)
    return place / "bundle"


def report(
    chosen: Arguments, study: Study, cells: Sequence[Cell], results: Mapping[str, Result], timed: Sequence[Row]
) -> Report:
    """Rows of pictures over the cells that are drawn, those of seconds, the bars, and every run."""
    made = Report(chosen, pictures.seeds_of(study, chosen.seed))
    whole = [results[cell.key] for cell in cells if cell.key in results]
    if whole:
        made.rows += pictures.rows(whole, pictures.ways(study, generator().noisy_steps))
    made.rows += timed
    made.bars += [*times.bars(timed), *pictures.bars(made.rows)]
    made.rows += [runs.run_row(c.key, results[c.key], row=c.name, seed=chosen.seed) for c in cells if c.key in results]
    return made


if __name__ == "__main__":
    main()
