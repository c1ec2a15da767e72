"""Adapters on the command line: FILE or NAME, with a weight if it is not 1: mine.safetensors:0.7"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edge_sdk.paths import expanded

if TYPE_CHECKING:
    from edge_sdk.adapter import Adapter


def parse(argument: str) -> tuple[str, float]:
    """Split "leaf:0.7" into ("leaf", 0.7); without a weight it is 1."""
    name, _, weight = argument.rpartition(":")
    try:
        return (name, float(weight)) if name else (argument, 1.0)
    except ValueError:  # the colon is part of the name, as in C:\mine.safetensors
        return argument, 1.0


def read(arguments: list[str], home: Path | None = None) -> list[tuple[Adapter, float]]:
    """Read adapters, given as files or as names of adapters at home."""
    from edge_sdk import adapter

    terms = []
    for name, weight in map(parse, arguments):
        if weight != weight or abs(weight) == float("inf"):
            raise typer.BadParameter(f"The weight of {name} must be a finite number.")
        terms.append((adapter.load(_place(name, home)), weight))
    return terms


def weights(arguments: list[str], home: Path) -> dict[str, float]:
    """Name -> weight of those adapters that are given by their names at home."""
    found: dict[str, float] = {}
    for name, weight in map(parse, arguments):
        if _place(name, home).parent == expanded(home):
            found[name] = found.get(name, 0.0) + weight
    return found


def _place(name: str, home: Path | None) -> Path:
    """The file of an adapter. A name without folder and suffix is that of one at home, unless a file has it."""
    file = Path(name)
    if home is None or file.is_file() or file.name != name or file.suffix == ".safetensors":
        return file
    return expanded(home) / f"{name}.safetensors"
