"""The study of federations as tables in Markdown: scores of every row, then costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from benchmarks.report.markdown import or_empty, table

Result: TypeAlias = Mapping[str, Any]
_PICTURES = ("both_hit", "both_p10", "style_hit", "subject_hit")
_SCORES = ("share_mean", "share_p10", "share_worst", "share_std", "worse_than_alone")
_HEAD = (
    "both", "both less our default's", "both, 10th percentile", "style", "subject", "held-out loss",
    "mean", "10th percentile", "worst", "std", "worse than alone", "mean less our default's", "seeds",
)  # fmt: skip


def scores(result: Result) -> str:
    """Scores of each row on its devices, by family."""

    def line(row: Result) -> list[str]:
        both, *pictures = (or_empty(row.get(name), "{:.2f}") for name in _PICTURES)
        scores = (f"{row[name]:.2f}" for name in _SCORES)
        return [both, _over(row, "both_over_default"), *pictures, f"{row['loss']:.4f}", *scores,
                _over(row, "over_default"), f"{row['seeds']}"]  # fmt: skip

    return table(["", "row", *_HEAD], _lines(result, line))


def _over(row: Result, what: str) -> str:
    return or_empty(row.get(what), "{:+.3f}") + or_empty(row.get(f"{what}_se"), " ± {:.3f}")


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
