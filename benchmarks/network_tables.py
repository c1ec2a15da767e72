"""The tables of benchmarks.chaos."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from benchmarks.markdown import or_empty, table

Result: TypeAlias = Mapping[str, Any]


def audited(result: Result) -> str:
    """What was left after the run."""
    columns = ["devices", "rounds", "faults", "committed", "lost", "double", "stuck", "trained twice"]
    found = [[str(row[name]) for name in columns] for row in result["rows"] if row["part"] == "audit"]
    return table(columns, found)


def injected(result: Result) -> str:
    """How often what happened."""
    return table(["fault", "times"], [[row["fault"], str(row["times"])] for row in result["rows"] if "fault" in row])


def resumed(result: Result) -> str:
    """How long it took to go on."""
    found = [
        [f"kill -9 of the {row['who']}", str(row["kills"]), *(or_empty(row[name], "{:.1f} s") for name in _TIMES)]
        for row in result["rows"]
        if row["part"] == "resume"
    ]
    return table(["after", "times", "median", "worst"], found)


_TIMES = ("median_s", "worst_s")
