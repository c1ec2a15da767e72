"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

NOT_YET = "Not measured yet."
"""In place of a table whose rows are still to be measured."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with a head and rows."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("|".join(["", *(f" {cell} " if cell else " " for cell in line), ""]) for line in lines)


def or_empty(value: float | None, form: str) -> str:
    """A figure in its format; empty if there is none."""
    return "" if value is None else form.format(value)
