"""The tables of benchmarks.chaos and benchmarks.transport."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from benchmarks.report.markdown import or_empty, table

Result: TypeAlias = Mapping[str, Any]


def audited(result: Result) -> str:
    """The audit after the run."""
    columns = ["devices", "rounds", "faults", "committed", "lost", "double", "stuck", "trained twice"]
    found = [[str(row[name]) for name in columns] for row in result["rows"] if row["part"] == "audit"]
    return table(columns, found)


def injected(result: Result) -> str:
    """Number of faults of each kind."""
    return table(["fault", "times"], [[row["fault"], str(row["times"])] for row in result["rows"] if "fault" in row])


def resumed(result: Result) -> str:
    """Seconds from a kill to the next step of a round."""
    found = [
        [f"kill -9 of the {row['who']}", str(row["kills"]), *(or_empty(row[name], "{:.1f} s") for name in _TIMES)]
        for row in result["rows"]
        if row["part"] == "resume"
    ]
    return table(["after", "times", "median", "worst"], found)


def fans(result: Result) -> str:
    """Fan-in and fan-out, ours and raw paho."""
    found = [
        [
            row["part"],
            row["row"],
            f"{row['devices']} x {row['mb'] / row['devices']:.1f} MB",
            *(f"{row[name]:.2f} s" for name in ("median_s", "best_s", "worst_s")),
            f"{row['mb_a_second']:.0f}",
        ]
        for row in result["rows"]
        if row["part"] in ("fan-in", "fan-out")
    ]
    return table(["", "row", "what", "median", "best", "worst", "MB/s"], found)


def crowds(result: Result) -> str:
    """The coordinator's memory."""
    found = [
        [str(row["devices"]), f"{row['updates']}", f"{row['coordinator_mb']:.0f}"]
        for row in result["rows"]
        if row["part"] == "crowd"
    ]
    return table(["devices", "updates aggregated", "coordinator's peak, MB"], found)


def rounds(result: Result) -> str:
    """A round of ours and of Flower."""
    columns = ("first_round_s", "round_s", "wire_mb_a_device_and_round", "server_mb", "client_mb")
    forms = ("{:.1f} s", "{:.2f} s", "{:.2f}", "{:.0f}", "{:.0f}")
    found = [
        [
            row["row"],
            or_empty(row.get("devices"), "{}"),
            *(or_empty(row.get(name), form) for name, form in zip(columns, forms, strict=True)),
            row.get("note", ""),
        ]
        for row in result["rows"]
        if row["part"] == "rounds"
    ]
    head = ["row", "devices", "first round", "a round", "MB a device and round", "server, MB", "device, MB", ""]
    return table(head, found)


_TIMES = ("median_s", "worst_s")
