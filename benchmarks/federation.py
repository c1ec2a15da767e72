"""Methods of learning together, side by side: real rounds, real training of the stickers base model, in one process.

    python -m benchmarks.federation [--quick] [--seed N] [--json FILE]

Every row runs with every seed: the most telling ones first, variants of other rows last. Each result is kept in the
system's temporary folder by its settings, and FILE is written after it. A result in either is not run again: a stopped
study resumes, even on another machine of the same kind. --seed is the first of three seeds; a row's figures are over
those that are done, and bars compare rows of as many seeds. A row's score on a device is the share of the way from the
base model's held-out loss (0) to the loss after pooling the pictures of its hidden group (1). both, style, subject:
shares of the pictures, of subjects that no device has, in which the judge finds what the caption asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from rich.progress import track

from benchmarks.federated.arms import ONE, OURS, Arm, arms, run
from benchmarks.federated.seconds import seconds_a_round
from benchmarks.federated.world import FULL, QUICK, Scale, world_of
from benchmarks.shared import runs
from benchmarks.shared.harness import KEPT, Arguments, Bar, Report, Row, arguments, standard_error, value_of
from benchmarks.shared.runs import Result, Run, run_row
from benchmarks.shared.stickers import base_id

PLACE = KEPT / "federation"
SEEDS = 3
Results: TypeAlias = dict[tuple[str, int], Result]
"""By row and seed."""
# Counts up whenever the code changes what a row computes.
EDITION = 7
ALONE, POOLED, GLOBAL = "alone", "pooled per group", "one global FedIT"
# Those without which a row has no figures, and those that they make most sense with.
BOUNDS = (ALONE, POOLED, OURS)
TELLING = (*BOUNDS, GLOBAL, "fedit", "IFCA")


def main(given: Sequence[str] | None = None) -> None:
    """Measure and report."""
    assert __doc__ is not None
    chosen = arguments(__doc__.splitlines()[0], given)
    scale = QUICK if chosen.quick else FULL
    seeds = [chosen.seed + number for number in range(1 if chosen.quick else SEEDS)]
    rows = [arm for arm in arms() if not chosen.quick or arm.name in TELLING]

    def on_results(results: Results) -> None:
        report(chosen, rows, scale, seeds, results).write()

    results = measure(in_order(rows, seeds), scale, chosen.json, on_results)
    world = world_of(scale, chosen.seed)
    rounds = [arm for arm in rows if arm.kind in ("federated", "ifca") and not arm.variant]
    costs = {arm.name: seconds_a_round(arm, world) for arm in track(rounds, "what rounds cost the coordinator")}
    report(chosen, rows, scale, seeds, results, costs).finish(hide="run")


def report(
    chosen: Arguments,
    rows: Sequence[Arm],
    scale: Scale,
    seeds: Sequence[int],
    results: Results,
    costs: Mapping[str, float] = MappingProxyType({}),
) -> Report:
    """Figures over the seeds of which the bounds and our default are done, and every run.

    costs: row -> the coordinator's seconds a round.
    """
    whole = [seed for seed in seeds if all((name, seed) in results for name in BOUNDS)]
    made = Report(chosen, whole)
    made.rows += [
        {**line, "coordinator_s": costs.get(str(line["row"]))} if "rounds" in line else line
        for line in summary(rows, whole, results)
    ]
    made.rows += [
        run_row(key_of(arm, scale, seed), results[arm.name, seed], row=arm.name, seed=seed)
        for arm in rows
        for seed in seeds
        if (arm.name, seed) in results
    ]
    made.bars += bars(made.rows)
    return made


def in_order(rows: Sequence[Arm], seeds: Sequence[int]) -> list[tuple[Arm, int]]:
    """Every row with every seed, as they are run: the telling rows, the others, then variants, each seed by seed."""

    groups = (
        sorted((arm for arm in rows if arm.name in TELLING), key=lambda arm: TELLING.index(arm.name)),
        [arm for arm in rows if arm.name not in TELLING and not arm.variant],
        [arm for arm in rows if arm.variant],
    )
    return [(arm, seed) for some in groups for seed in seeds for arm in some]


def key_of(arm: Arm, scale: Scale, seed: int) -> str:
    """Name of a result, made from everything that it depends on."""
    facts = {"edition": EDITION, "base": base_id(), "arm": arm.key(scale, seed), "scale": asdict(scale), "seed": seed}
    return runs.key_of(facts)


def measure(
    cells: Sequence[tuple[Arm, int]],
    scale: Scale,
    before: Path | None,
    on_results: Callable[[Results], None] | None = None,
) -> Results:
    """Results of these rows and seeds; the missing ones are run, in this order.

    on_results: called after each run with all results that there are.
    """
    keys = {(arm.name, seed): key_of(arm, scale, seed) for arm, seed in cells}
    listed = [
        Run(f"{arm.name}, seed {seed}", keys[arm.name, seed], partial(_run, arm, scale, seed)) for arm, seed in cells
    ]

    def named(found: Mapping[str, Result]) -> Results:
        return {cell: found[key] for cell, key in keys.items() if key in found}

    def on_result(found: Mapping[str, Result]) -> None:
        if on_results:
            on_results(named(found))

    return named(runs.measured(listed, PLACE, before, "federations", on_result))


def _run(arm: Arm, scale: Scale, seed: int) -> Result:
    return run(arm, world_of(scale, seed))


def shares(result: Result, pooled: Result) -> dict[str, float]:
    """Device -> share of the way from the base model (0) to pooled pictures (1)."""
    base = result["base"]
    return {name: (base[name] - loss) / (base[name] - pooled["loss"][name]) for name, loss in result["loss"].items()}


def summary(rows: Sequence[Arm], seeds: Sequence[int], results: Mapping[tuple[str, int], Result]) -> list[Row]:
    """A line for each row: over the devices of all seeds."""
    made: list[Row] = []
    for arm in rows:
        done = [s for s in seeds if (arm.name, s) in results]
        found = [(results[arm.name, s], results[POOLED, s], results[ALONE, s]) for s in done]
        if not found:
            continue
        score = np.array([share for own, pooled, _ in found for share in shares(own, pooled).values()])
        ours = [share for s in done for share in shares(results[OURS, s], results[POOLED, s]).values()]
        worse = [own["loss"][name] > alone["loss"][name] for own, _, alone in found for name in own["loss"]]
        line: dict[str, str | int | float | None] = {
            "part": "row",
            "family": arm.family,
            "row": arm.name,
            "learning_rate": arm.settings.get("learning_rate"),
            "seeds": len(found),
            "loss": _mean(np.mean(list(own["loss"].values())) for own, _, _ in found),
            "share_mean": float(score.mean()),
            "share_p10": float(np.quantile(score, 0.1)),
            "share_worst": float(score.min()),
            "share_std": float(score.std()),
            "over_default": float(np.mean(score - ours)),
            "over_default_se": standard_error(np.reshape(score - ours, (len(found), -1)).mean(axis=1)),
            "worse_than_alone": float(np.mean(worse)),
            **_pictures([own for own, _, _ in found], [results[OURS, s] for s in done]),
            "seconds": _mean(own["seconds"] for own, _, _ in found),
        }
        if all("curve" in own for own, _, _ in found):
            line |= {
                "ari": _mean(own["ari"] for own, _, _ in found),
                "megabytes": _mean(own["total_bytes"] / 1e6 for own, _, _ in found),
                "aggregation_error": _mean(own["aggregation_error"] for own, _, _ in found),
                "rounds": len(found[0][0]["curve"]),
            }
        made.append(line)
    return _with_rounds(made, rows, seeds, results)


def _pictures(found: Sequence[Result], ours: Sequence[Result]) -> dict[str, float | None]:
    """The judge's shares of pictures over all devices, and of both against our default's, seed by seed."""
    shares = {
        what: np.array([[one["judged"][name][what] for name in one["judged"]] for one in found])
        for what in ("both_hit", "style_hit", "subject_hit")
    }
    own = np.array([[one["judged"][name]["both_hit"] for name in one["judged"]] for one in ours])
    over = (shares["both_hit"] - own).mean(axis=1)
    return {
        **{what: float(share.mean()) for what, share in shares.items()},
        "both_p10": float(np.quantile(shares["both_hit"], 0.1)),
        "both_over_default": float(over.mean()),
        "both_over_default_se": standard_error(over),
    }


def _with_rounds(
    made: list[Row], rows: Sequence[Arm], seeds: Sequence[int], results: Mapping[tuple[str, int], Result]
) -> list[Row]:
    """Add rounds and megabytes until 90 % of the best row's final gain, and rounds until global FedIT's best gain."""
    curves = {
        arm.name: [
            [own["base_curve"] - loss for loss in own["curve"]]
            for s in seeds
            if "curve" in (own := results.get((arm.name, s), {}))
        ]
        for arm in rows
    }
    gains = {name: np.mean(found, axis=0) for name, found in curves.items() if found}
    if not gains:
        return made
    wanted = 0.9 * max(float(gains[name][-1]) for name, found in curves.items() if len(found) == len(seeds))
    rival = float(gains[GLOBAL].max()) if GLOBAL in gains else float("nan")
    full: list[Row] = []
    for line in made:
        gain = gains.get(str(line["row"]))
        if gain is None:
            full.append(line)
            continue
        first = _first(gain, wanted)
        used = None
        if first is not None:
            took = [results[str(line["row"]), s] for s in seeds if (str(line["row"]), s) in results]
            used = _mean((own["bytes_up"][first - 1] + own["bytes_down"][first - 1]) / 1e6 for own in took)
        full.append(
            {**line, "rounds_to_90": first, "megabytes_to_90": used, "rounds_to_global_fedit": _first(gain, rival)}
        )
    return full


def _first(gain: np.ndarray[Any, np.dtype[np.float64]], wanted: float) -> int | None:
    """The round, from 1, after which the gain is at least this."""
    reached = np.flatnonzero(gain >= wanted)
    return int(reached[0]) + 1 if len(reached) else None


def _mean(values: Any) -> float | None:
    known = [float(value) for value in values if value is not None]
    return float(np.mean(known)) if known else None


def bars(rows: Sequence[Row]) -> list[Bar]:
    """Bars of our default, against the summary's rows that have run with as many seeds.

    Other methods inside our clusters, with our interaction, are rivals too. Learning rates other than the study's count
    once all of them have run.
    """
    found = {str(row["row"]): row for row in rows if row.get("part") == "row"}
    if OURS not in found:
        return []
    ours = found[OURS]
    lines = {name: line for name, line in found.items() if line["seeds"] == ours["seeds"]}
    made = [
        Bar("our default, mean share", value_of(ours, "share_mean"), 0.9, "at least"),
        Bar("our default, share at the 10th percentile", value_of(ours, "share_p10"), 0.75, "at least"),
        Bar("our default, share of devices that end worse than alone", value_of(ours, "worse_than_alone"), 0.0),
    ]
    made += _against([line for line in lines.values() if line["learning_rate"] is None], "at one rate")
    if all(arm.name in lines for arm in arms() if "learning_rate" in arm.settings):
        made += _against(list(lines.values()), "each at the best rate it was tried with")
    if GLOBAL in lines:
        halves = value_of(lines[GLOBAL], "rounds") / 2
        made.append(Bar("rounds to global FedIT's best loss", value_of(ours, "rounds_to_global_fedit"), halves))
    return made


def _against(lines: Sequence[Row], when: str) -> list[Bar]:
    """Our lead over the best rival that moves no more bytes, and over the best of all rivals."""
    made: list[Bar] = []
    for own, who in ((OURS, "our default"), (ONE, "our default at one rank")):
        ours = [line for line in lines if _named(line) == own]
        rivals = [
            line for line in lines if line["family"] in ("baseline", "aggregation") and _named(line) not in (OURS, ONE)
        ]
        if not ours or not rivals:
            continue
        moved = max(value_of(line, "megabytes") for line in ours) + 0.1
        frugal = [line for line in rivals if value_of(line, "megabytes") <= moved]
        for some, which in ((frugal, "the best rival at its bytes"), (rivals, "the best rival of any bytes")):
            for what in ("both_hit", "both_p10", "share_mean", "share_p10"):
                best = [max((value_of(line, what) for line in side), default=float("nan")) for side in (ours, some)]
                made.append(Bar(f"{when}, {who} over {which}, {what}", best[0] - best[1], 0.0, "at least"))
    return made


def _named(line: Row) -> str:
    """The row's name without a learning rate; its full name if it differs in anything else."""
    name, _, rest = str(line["row"]).partition(", ")
    return name if not rest or rest.startswith("learning rate") else str(line["row"])


if __name__ == "__main__":
    main()
