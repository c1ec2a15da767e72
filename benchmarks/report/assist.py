"""The tables of benchmarks.assist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from benchmarks.report.markdown import or_empty, table

Result: TypeAlias = Mapping[str, Any]


def assisted_pictures(result: Result) -> str:
    """Hits of every way, and their differences from drawing alone."""
    head = [
        "way", "steps here", "subject", "style", "both", "subject, less all local", "style, less all local",
        "both, less all local", "distance of pixels",
    ]  # fmt: skip
    found = [
        [
            f"{row['row']}{' (auto)' if row['auto'] else ''}",
            str(row["steps"] - row["by_helper"]),
            *(f"{row[f'{what}_hit']:.0%}" for what in ("subject", "style", "both")),
            *(_less(row, what) for what in ("subject", "style", "both")),
            f"{row['distance']:.3f}",
        ]
        for row in result["rows"]
        if row["part"] == "pictures"
    ]
    return table(head, found)


def _less(row: Result, what: str) -> str:
    if row["row"] == "all local":
        return ""
    return f"{row[f'{what}_more']:+.1%}" + or_empty(row[f"{what}_more_se"], " ± {:.1%}")


def assisted_times(result: Result) -> str:
    """Seconds and bytes of a picture, under a heading for each base model."""
    head = [
        "row", "picture", "of all local", "device's processor", "helper's processor", "steps of the helper", "dropped",
        "bytes up", "bytes down", "largest difference",
    ]  # fmt: skip
    parts = []
    for model, rows in _by_model(result, "cost").items():
        alone = {row["row"]: row["picture_s"] for row in rows}
        share = rows[0]["share"]
        limit = "not limited" if share is None else f"on {100 * share:g} % of a core"
        lines = [
            [
                row["row"] + (f" ({row['alone']})" if row["alone"] else ""),
                f"{row['picture_s']:.1f} s",
                f"{row['picture_s'] / alone[_base(row['row'])]:.2f}",
                f"{row['device_s']:.2f} s",
                f"{row['helper_s']:.2f} s",
                *(f"{row[name]:.0f}" for name in ("by_helper", "dropped")),
                *(f"{row[name]:,.0f}" for name in ("up_bytes", "down_bytes")),
                or_empty(row["difference"], "{:.1e}"),
            ]
            for row in rows
        ]
        parts += [f"### {model}, the device {limit}, pictures a row: {rows[0]['draws']}", table(head, lines)]
    return "\n\n".join(parts)


def _base(row: str) -> str:
    """The row of a drawing alone with the same adapters."""
    return "all local, with a leaf" if "with a leaf" in row else "all local"


def failing_helpers(result: Result) -> str:
    """Seconds of a picture whose helper fails, against one alone just before it."""
    head = ["a helper that", "times", "seconds, of those alone", "processor, of that alone", "hung", "named error"]
    parts = []
    for model, rows in _by_model(result, "fault").items():
        lines = [
            [
                row["row"],
                str(row["faults"]),
                or_empty(row["longer"], "{:.3f}"),
                or_empty(row["longer_processor"], "{:.3f}"),
                str(row["hung"]),
                row["reasons"],
            ]
            for row in rows
        ]
        parts += [f"### {model}", table(head, lines)]
    return "\n\n".join(parts)


def _by_model(result: Result, part: str) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    for row in result["rows"]:
        if row["part"] == part:
            found.setdefault(row["model"], []).append(row)
    return found
