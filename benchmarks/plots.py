"""Plots of committed results, for docs/benchmarks/.

    python -m benchmarks.plots

Reads benchmarks/results/federation.json, writes docs/images/federation-*.svg. Equal results give equal files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

RESULTS = Path("benchmarks/results/federation.json")
IMAGES = Path("docs/images")
# Families in one plot: few enough rows to be told apart.
COMPARED = ("baseline", "aggregation")
OURS = {
    "product": {"linewidth": 2.5, "color": "black"},
    "one rank": {"linewidth": 2.5, "color": "black", "linestyle": ":"},
}
_LINES = ("-", "--", ":")
_WIDTH = 8.0
_MEGABYTE = 1e6


def main() -> None:
    """Draw all."""
    draw(json.loads(RESULTS.read_text("utf-8")), IMAGES)


def draw(result: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write the plots of a study and return their files."""
    rows = [row for row in result["rows"] if row["part"] == "row"]
    runs = _runs(result["rows"])
    mpl.rcParams["svg.hashsalt"] = "impasto"  # otherwise identifiers are random
    figure = Figure(figsize=(_WIDTH + 2.2, 4.2), layout="constrained")
    by_round, by_bytes = figure.subplots(1, 2, sharey=True)
    compared = [row["row"] for row in rows if row["family"] in COMPARED or row["row"] in OURS]
    for number, name in enumerate(name for name in compared if name in runs):
        # There are ten colours.
        style = OURS.get(name, {"linewidth": 1.0, "linestyle": _LINES[number // 10 % len(_LINES)]})
        _draw_curves(by_round, by_bytes, name, runs[name], style)
    by_round.set_xlabel("rounds")
    by_bytes.set_xlabel("megabytes, all devices, both ways")
    by_bytes.set_xscale("log")
    by_round.set_ylabel("held-out loss below the base model's")
    figure.legend(*by_bytes.get_legend_handles_labels(), loc="outside right upper", fontsize=7, frameon=False)
    scores = Figure(figsize=(_WIDTH, 0.8 + 0.28 * len(rows)), layout="constrained")
    _draw_scores(scores.subplots(), rows)
    return [_save(figure, folder / "federation-rounds.svg"), _save(scores, folder / "federation-scores.svg")]


def _runs(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Row -> result of each seed, for rows that have rounds."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["part"] == "run" and "curve" in (one := json.loads(row["result"])):
            found.setdefault(row["row"], []).append(one)
    return found


def _draw_curves(
    by_round: Axes, by_bytes: Axes, name: str, runs: Sequence[Mapping[str, Any]], style: Mapping[str, Any]
) -> None:
    gain = np.mean([[run["base_curve"] - loss for loss in run["curve"]] for run in runs], axis=0)
    moved = np.mean([np.add(run["bytes_up"], run["bytes_down"]) for run in runs], axis=0) / _MEGABYTE
    by_round.plot(range(1, len(gain) + 1), gain, label=name, **style)
    by_bytes.plot(moved, gain, label=name, **style)


def _draw_scores(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Mean, 10th percentile and worst device of every row, the best on top."""
    ordered = sorted(rows, key=lambda row: row["share_mean"])
    height = range(len(ordered))
    for what, marker, label in (
        ("share_worst", "x", "worst device"),
        ("share_p10", "|", "10th percentile"),
        ("share_mean", "o", "mean"),
    ):
        axes.plot([row[what] for row in ordered], height, marker, color="black", label=label)
    axes.hlines(height, [row["share_worst"] for row in ordered], [row["share_mean"] for row in ordered], "0.8")
    axes.set_yticks(height, [row["row"] for row in ordered], fontsize=8)
    axes.set_xlabel("share of the way from the base model (0) to pooled pictures (1)")
    axes.legend(fontsize=8, frameon=False, loc="lower right")


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    return path


if __name__ == "__main__":
    main()
