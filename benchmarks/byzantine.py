"""Lying devices against filters: real rounds and real training of the stickers base model, with some false updates.

    python -m benchmarks.byzantine [--quick] [--seed N] [--json FILE]

Ten devices share one hidden group; 10 to 40 % of them attack in one of the ways of `lying.attacks`. Every filter
is told the true share; without attackers it assumes its default. Each cell is kept by its settings, in the system's
temporary folder and in FILE, and is not run again: a stopped run resumes, and another --seed adds rows to FILE.

clean: held-out denoising loss of the group, as a share of the way from the base model (0) to the same devices without
attackers or filter (1). success, of a backdoor: the loss on pictures of the target style under triggered captions, as a
share of the way from the devices without attackers (0) to an attacker that trains alone (1); target_hit and
target_share: share of drawings of such captions in which the judge names that style, and that style's mean probability.
trust: mean trust in attackers over mean trust in honest devices. refused_honest: the share of honest updates that were
left out. breakdown: number of attackers that the filter says it withstands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.lying.attacks import ATTACKS
from benchmarks.lying.world import ALONE, EDITION, FULL, HONEST, PLACE, QUICK, Cell, Size, run_cell
from benchmarks.shared import runs
from benchmarks.shared.harness import Bar, Report, Row, arguments, value_of
from benchmarks.shared.runs import Result, Run, run_row
from benchmarks.shared.stickers import base_id
from coordinator.methods.robust import FILTERS

SHARES, QUICK_SHARES = (0.1, 0.2, 0.3, 0.4), (0.2,)
# Filters are held to bars up to this share of attackers.
HELD = 0.3
KEEPS, STOPS = 0.8, 0.2
_AS_THEY_ARE = ("target_hit", "target_share", "trust", "refused_honest", "breakdown", "seconds")


def main(given: Sequence[str] | None = None) -> None:
    """Measure and report."""
    assert __doc__ is not None
    chosen = arguments(__doc__.splitlines()[0], given)
    size = QUICK if chosen.quick else FULL
    listed = cells(QUICK_SHARES if chosen.quick else SHARES)
    results = measure(listed, size, chosen.seed, chosen.json)
    report = Report(chosen, sorted(results))
    report.rows += summary(results)
    for seed, found in results.items():
        report.rows += [
            run_row(key_of(cell, size, seed), result, row=named(cell), seed=seed) for cell, result in found.items()
        ]
    report.bars += bars(report.rows)
    report.finish(hide="run")


def cells(shares: Sequence[float]) -> list[Cell]:
    """All cells; first those that the others are compared with."""
    honest = [Cell(HONEST, filter=name) for name in FILTERS]
    lied = [Cell(attack, share, name) for share in shares for attack in ATTACKS for name in FILTERS]
    return [Cell(ALONE), *honest, *lied]


def named(cell: Cell) -> str:
    """A cell's name in progress and tables."""
    return f"{cell.attack}, {cell.share:.0%}, {cell.filter}"


def key_of(cell: Cell, size: Size, seed: int) -> str:
    """Name of a result, made from everything that it depends on, including settings left at their defaults."""
    asked = msgspec.to_builtins(cell.federation(size.world, seed), enc_hook=str)
    facts = {
        "edition": EDITION, "base": base_id(), "cell": asdict(cell), "federation": asked, "size": asdict(size),
        "seed": seed,
    }  # fmt: skip
    return runs.key_of(facts)


def measure(listed: Sequence[Cell], size: Size, seed: int, before: Path | None) -> dict[int, dict[Cell, Result]]:
    """Seed -> results: this seed's, running the cells that are missing, and those of other seeds complete in a file."""
    keys = {cell: key_of(cell, size, seed) for cell in listed}
    work = [Run(named(cell), key, partial(run_cell, cell, size, seed)) for cell, key in keys.items()]
    found = runs.measured(work, PLACE, before, "federations")
    results = {seed: {cell: found[key] for cell, key in keys.items()}}
    known = runs.known(before)
    for other in runs.seeds(before) - {seed}:
        held = {cell: known.get(key_of(cell, size, other)) for cell in listed}
        whole = {cell: result for cell, result in held.items() if result is not None}
        if len(whole) == len(listed):
            results[other] = whole
    return results


def summary(results: Mapping[int, Mapping[Cell, Result]]) -> list[Row]:
    """A line for each federation: means over the seeds."""
    lines = [_lines(found) for found in results.values()]
    return [
        {
            "part": "cell",
            "attack": cell.attack,
            "share": cell.share,
            "filter": cell.filter,
            **{figure: _mean([line[cell][figure] for line in lines]) for figure in lines[0][cell]},
        }
        for cell in lines[0]
    ]


def _lines(results: Mapping[Cell, Result]) -> dict[Cell, dict[str, float | None]]:
    """The figures of one seed."""
    honest, alone = results[Cell(HONEST)], results[Cell(ALONE)]
    gain, gap = honest["base"] - honest["loss"], honest["triggered"] - alone["triggered"]
    return {
        cell: {
            "clean": (honest["base"] - found["loss"]) / gain,
            "success": (honest["triggered"] - found["triggered"]) / gap if "triggered" in found else None,
            **{figure: found.get(figure) for figure in _AS_THEY_ARE},
        }
        for cell, found in results.items()
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def bars(rows: Sequence[Row]) -> list[Bar]:
    """Bars of the filters: each costs little where nobody lies, and one of them stops every attack."""
    lines = [row for row in rows if row.get("part") == "cell"]
    found = [
        Bar(f"nobody lies, {row['filter']}: share of the gain without filter", value_of(row, "clean"), 0.9, "at least")
        for row in lines
        if row["attack"] == HONEST and row["filter"] != "none"
    ]
    worst = {name: _worst(lines, name) for name in FILTERS if name != "none"}
    best = max(worst, key=lambda name: min(worst[name][0] - KEEPS, STOPS - worst[name][1]))
    keeps, passes = worst[best]
    name = f"{best}, the best filter, up to {HELD:.0%} attackers"
    return [
        *found,
        Bar(f"{name}: share of the gain under the worst attack", keeps, KEEPS, "at least"),
        Bar(f"{name}: success of the worse backdoor", passes, STOPS),
    ]


def _worst(lines: Sequence[Row], name: str) -> tuple[float, float]:
    """The least gain that a filter keeps, and the most success that it lets a backdoor have."""
    held = [
        row
        for row in lines
        if row["filter"] == name and row["attack"] in ATTACKS and value_of(row, "share") <= HELD + 1e-9
    ]
    clean = [value_of(row, "clean") for row in held]
    success = [value_of(row, "success") for row in held if row["success"] is not None]
    return float(np.min(clean)), float(np.max(success))


if __name__ == "__main__":
    main()
