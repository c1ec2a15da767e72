"""The benchmark of lying devices as tables in Markdown: each filter's share of the gain, and success of backdoors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from benchmarks.report.markdown import table

Result: TypeAlias = Mapping[str, Any]


def gain(result: Result) -> str:
    """Share of the gain that each filter keeps."""
    return _table(result, _kept)


def backdoors(result: Result) -> str:
    """Success of backdoors under each filter."""
    return _table(result, lambda row: f"{row['success']:.2f} ({row['target_hit']:.0%})", only="success")


def _kept(row: Result) -> str:
    notes = [f"trust {row['trust']:.2f}"] if row["trust"] is not None and row["filter"] != "none" else []
    notes += [f"honest left out {row['refused_honest']:.0%}"] if row["refused_honest"] else []
    return f"{row['clean']:.2f}" + (f" ({', '.join(notes)})" if notes else "")


def _table(result: Result, cell: Callable[[Result], str], only: str = "clean") -> str:
    """A line for each attack and share, a column for each filter."""
    lines: dict[tuple[str, float], dict[str, Result]] = {}
    for row in result["rows"]:
        # The row of an attacker alone has no federation, and so no filter.
        if row.get("part") == "cell" and row["breakdown"] is not None and row[only] is not None:
            lines.setdefault((row["attack"], row["share"]), {})[row["filter"]] = row
    filters = list(dict.fromkeys(name for cases in lines.values() for name in cases))
    made = [
        [attack, f"{share:.0%}" if share else "", *(cell(cases[name]) for name in filters)]
        for (attack, share), cases in lines.items()
    ]
    return table(["attack", "attackers", *filters], made)
