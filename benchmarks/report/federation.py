"""The study of federations as tables in Markdown: scores of every row, then costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from benchmarks.report.markdown import or_empty, table

Result: TypeAlias = Mapping[str, Any]
_SCORES = ("share_mean", "share_p10", "share_worst", "share_std", "worse_than_alone", "style_hit", "subject_hit")
_HEAD = ("mean", "10th percentile", "worst", "std", "worse than alone", "style hit", "subject hit")
_OVER = ("mean less our default's", "seeds")


def scores(result: Result) -> str:
    """Scores of each row on its devices, by family."""

    def line(row: Result) -> list[str]:
        figures = [f"{row[name]:.2f}" for name in _SCORES]
        over = f"{row['over_default']:+.3f}" + or_empty(row["over_default_se"], " ± {:.3f}")
        return [f"{row['loss']:.4f}", *figures, over, f"{row['seeds']}"]

    return table(["", "row", "held-out loss", *_HEAD, *_OVER], _lines(result, line))


def costs(result: Result) -> str:
    """Rounds, bytes and the coordinator's work of each row that has rounds."""
    head = ["", "row", "MB in all", "rounds to 90 %", "MB to 90 %", "rounds to global FedIT's best", "ARI"]

    def line(row: Result) -> list[str]:
        return [
            f"{row['megabytes']:.0f}",
            or_empty(row["rounds_to_90"], "{}"),
            or_empty(row["megabytes_to_90"], "{:.0f}"),
            or_empty(row["rounds_to_global_fedit"], "{}"),
            or_empty(row["ari"], "{:.2f}"),
            or_empty(row["aggregation_error"], "{:.3f}"),
            or_empty(row.get("coordinator_s"), "{:.2f} s"),
        ]

    return table([*head, "aggregation error", "coordinator, a round"], _lines(result, line, only="rounds"))


def _lines(result: Result, line: Callable[[Result], list[str]], only: str | None = None) -> list[Sequence[str]]:
    """A line for each row; the first of each family names it."""
    made: list[Sequence[str]] = []
    before = ""
    for row in result["rows"]:
        if row["part"] == "row" and (only is None or only in row):
            made.append([row["family"] if row["family"] != before else "", row["row"], *line(row)])
            before = row["family"]
    return made
