"""Learning an owner's style from few pictures: the pictures drawn afterwards, by how it was learnt and drawn.

    python -m benchmarks.learning [--quick] [--seed N] [--json FILE]

An owner has 12 pictures in a style that the base model does not know. A lesson trains an adapter on them. Subjects of
the same kinds, of which the owner has no picture, are then drawn in the owner's words, and the judge names style and
subject of each. Rows change one thing of the usual lesson or drawing; in "together", four owners of one style learn in
a federation. These two also run with 4 and 40 pictures.

both, style, subject: shares of pictures; gain: of both over the usual lesson, on the same captions and seeds, and its
standard error over owners; loss: mean held-out denoising loss; share: of what the judge finds in real pictures.

Each result is kept by its settings, in the system's temporary folder and in FILE: a stopped study resumes. FILE has the
rows that are complete, the most telling ones first, from the first row on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.lessons import world
from benchmarks.lessons.arms import AS_LONG, BASE, BASE_KNOWN, LAST_TELLING, OTHER_KINDS, TOGETHER, USUAL, Arm, arms
from benchmarks.shared import runs
from benchmarks.shared.harness import Arguments, Bar, Report, Row, arguments, standard_error, value_of
from benchmarks.shared.runs import Result, Run, key_of
from samples.demo.plan import GROUP_STYLES
from samples.stickers.judge import CARD, FOLDER

PLACE = world.PLACE / "results"
FEW, SOME, MANY = 4, 12, 40


@dataclass(frozen=True)
class Scale:
    """Size of the study: owners are one for each style and seed, each asked for so many pictures."""

    seeds: int
    asked: int
    styles: tuple[str, ...] = GROUP_STYLES


FULL = Scale(2, 24)
QUICK = Scale(1, 2, GROUP_STYLES[:2])
QUICK_ARMS = (USUAL, TOGETHER, BASE, BASE_KNOWN)
# Rows that are measured with few and with many pictures too.
BY_PICTURES = (USUAL, TOGETHER, BASE)


@dataclass(frozen=True)
class Cell:
    """One row's result with one owner."""

    arm: Arm
    style: str
    seed: int
    pictures: int
    key: str

    @property
    def name(self) -> str:
        return f"{self.arm.name}, {self.pictures} pictures of {self.style}, seed {self.seed}"

    @property
    def asked_for(self) -> tuple[Arm, str, int, int]:
        """The arguments of `world.run`."""
        return self.arm, self.style, self.seed, self.pictures


def main(given: Sequence[str] | None = None) -> None:
    """Measure and report."""
    assert __doc__ is not None
    chosen = arguments(__doc__.splitlines()[0], given)
    scale = QUICK if chosen.quick else FULL
    seeds = [chosen.seed + at for at in range(scale.seeds)]
    cells = [
        Cell(arm, style, seed, count, key_of(world.facts(arm, world.owner(style, seed, count, scale.asked, arm.kinds))))
        for arm, count in rows(chosen.quick)
        for seed in seeds
        for style in scale.styles
    ]

    def on_result(results: Mapping[str, Result]) -> None:
        report(chosen, seeds, cells, results).write()

    # One thread each, as many at once as there are cores.
    work = [Run(cell.name, cell.key, partial(world.run, *cell.asked_for, scale.asked)) for cell in cells]
    results = runs.measured(work, PLACE, chosen.json, "lessons", on_result)
    report(chosen, seeds, cells, results).finish(hide="run")


def rows(quick: bool) -> list[tuple[Arm, int]]:
    """Every row's arm and number of pictures, in the order in which they are measured."""
    found = [arm for arm in arms() if not quick or arm.name in QUICK_ARMS]
    if quick:
        return [(arm, SOME) for arm in found]
    telling = {arm.name: at for at, arm in enumerate(found)}[LAST_TELLING] + 1
    by_pictures = [arm for arm in found if arm.name in BY_PICTURES]
    return [
        *((arm, SOME) for arm in found[:telling]),
        *((arm, FEW) for arm in by_pictures),
        *((arm, SOME) for arm in found[telling:]),
        *((arm, MANY) for arm in by_pictures),
    ]


def report(chosen: Arguments, seeds: Sequence[int], cells: Sequence[Cell], results: Mapping[str, Result]) -> Report:
    """The complete rows, the bars that follow from them, and every run."""
    made = Report(chosen, seeds)
    groups: dict[tuple[str, int], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.arm.name, cell.pictures), []).append(cell)
    done = {row: found for row, found in groups.items() if _complete(found, results)}
    # The usual lesson, asked for the same subjects.
    usual = {
        (found[0].arm.kinds, count): [results[c.key] for c in found]
        for (name, count), found in done.items()
        if name in (USUAL, OTHER_KINDS)
    }
    real = _real_pictures()
    whole = {row: found for row, found in done.items() if (found[0].arm.kinds, row[1]) in usual}
    made.rows += [
        summary(name, count, [results[cell.key] for cell in found], usual[found[0].arm.kinds, count], real)
        for (name, count), found in whole.items()
    ]
    table: dict[tuple[str, object], Row] = {(str(row["row"]), row["pictures"]): row for row in made.rows}
    made.bars += bars(table, lead(whole, results))
    made.rows += [runs.run_row(c.key, results[c.key], row=c.arm.name, seed=c.seed) for c in cells if c.key in results]
    return made


def _complete(cells: Sequence[Cell], results: Mapping[str, Result]) -> bool:
    return all(cell.key in results for cell in cells)


def lead(groups: Mapping[tuple[str, int], Sequence[Cell]], results: Mapping[str, Result]) -> float | None:
    """Return how far together is ahead of the better of alone at the usual steps and at as many as together.

    In standard errors of the difference over owners; None with one owner, or if one of the rows is not measured.
    """
    both = {
        name: np.array([_both(results[cell.key]) for cell in groups[name, SOME]])
        for name in (TOGETHER, USUAL, AS_LONG)
        if (name, SOME) in groups
    }
    if len(both) < 3:
        return None
    together = both.pop(TOGETHER)
    ahead = together - max(both.values(), key=np.mean)
    error = standard_error(ahead)
    return None if error is None else float(ahead.mean() / max(error, 1e-9))


def bars(table: Mapping[tuple[str, object], Row], ahead: float | None) -> list[Bar]:
    """Bars of learning alone and together.

    Args:
        table: by row and number of pictures.
        ahead: together over alone, in standard errors; None: not known.
    """
    found = []
    alone, together, known = (table.get((name, SOME)) for name in (USUAL, TOGETHER, BASE_KNOWN))
    if alone:
        found.append(
            Bar("alone: style and subject, of what is found in real pictures", _share(alone), 0.45, "at least")
        )
    if together:
        found.append(Bar("together: the same", _share(together), 0.6, "at least"))
    if ahead is not None:
        found.append(Bar("together over alone, in standard errors", ahead, 2.0, "at least"))
    for row, who in ((alone, "alone"), (together, "together")):
        if row and known:
            lost = value_of(known, "subject") - value_of(row, "subject")
            found.append(Bar(f"{who}: subject lost, against the base model in known words", lost, 0.08))
    if few := table.get((TOGETHER, FEW)):
        found.append(Bar(f"together, {FEW} pictures: style and subject", _share(few), 0.45, "at least"))
    return found


def _share(row: Row) -> float:
    return value_of(row, "share")


def summary(name: str, pictures: int, found: Sequence[Result], usual: Sequence[Result], real: float) -> Row:
    """Means over the owners of a row; `usual` are the same owners' results in the usual row."""
    both = [_both(result) for result in found]
    gains = np.array([mine - theirs for mine, theirs in zip(both, map(_both, usual), strict=True)])
    mean = float(np.mean(both))
    return {
        "row": name,
        "pictures": pictures,
        "both": mean,
        "share": mean / real,
        "style": float(np.mean([np.mean(result["style"]) for result in found])),
        "subject": float(np.mean([np.mean(result["subject"]) for result in found])),
        "gain": float(gains.mean()),
        "gain_se": standard_error(gains),
        "loss": float(np.mean([result["loss"] for result in found])),
        "learning_s": float(np.median([result["seconds"] for result in found])),
        "drawn": sum(len(result["style"]) for result in found),
    }


def _both(result: Result) -> float:
    return float(np.mean(np.logical_and(result["style"], result["subject"])))


def _real_pictures() -> float:
    """Share of real pictures in device styles whose style and subject the judge finds."""
    card = json.loads((FOLDER / CARD).read_text("utf-8"))
    return float(card["held_out"]["real"]["devices"]["both_hit"])


if __name__ == "__main__":
    main()
