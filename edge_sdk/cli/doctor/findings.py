"""Findings on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edge_sdk.diagnosis import Finding

_MARKS = {"ok": ("ok", "green"), "warning": ("look", "yellow"), "broken": ("broken", "bold red")}


def shown(finding: Finding) -> RenderableType:
    """A finding, its reason and the next step, for a terminal."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    lines = Table.grid(padding=(0, 1))
    lines.add_column(width=6)
    lines.add_column(width=11, style="bold")
    lines.add_column(overflow="fold")
    mark, style = _MARKS[finding.status]
    text = Text(finding.what)
    if finding.why:
        text.append(f"\n{finding.why}", "dim")
    if finding.next:
        text.append(f"\nNext: {finding.next}")
    lines.add_row(Text(mark, style), finding.section, text)
    return Padding(lines, 0)
