"""The tables of benchmarks.secure_sum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from benchmarks.report.markdown import or_empty, table

Result: TypeAlias = Mapping[str, Any]


def sum_costs(result: Result) -> str:
    """Bytes and seconds of each sum."""
    head = ["devices, lost", "k, t", "row", "up", "down", "a device", "server", "error"]
    found = []
    for row in result["rows"]:
        if row["part"] == "costs":
            first = [f"{row['devices']:,}, {row['lost']:,}"]
            if "note" in row:
                found.append([*first, "", row["row"], row["note"], "", "", "", ""])
                continue
            found.append(
                [
                    *first,
                    f"{row['neighbours']}, {row['threshold']}",
                    row["row"],
                    *(f"{row[name]:.3g} MB" for name in ("up_mb", "down_mb")),
                    *(f"{row[name]:.3g} s" for name in ("device_s", "server_s")),
                    or_empty(row["error"], "{:.1e}"),
                ]
            )
    return table(head, found)


def sum_limits(result: Result) -> str:
    """Errors beyond the limits of one scale, or of 32 bits."""
    found = [
        [row["what"], row["row"], f"{row['devices']:,}", row["note"] or or_empty(row["error"], "{:.1e}")]
        for row in result["rows"]
        if row["part"] == "limits"
    ]
    return table(["limit", "row", "devices", "largest relative error"], found)
