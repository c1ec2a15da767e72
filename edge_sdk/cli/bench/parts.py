"""The parts of a measurement: each takes the settings and a function to report with, and returns its values."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol, TypeAlias

Values: TypeAlias = dict[str, Any]

# Part -> "module:function", in the order in which they run. A module is imported in the part's own process.
PARTS = {
    "prepare": "edge_sdk.cli.bench.drawing:prepare",
    "picture": "edge_sdk.cli.bench.drawing:draw",
    "training": "edge_sdk.cli.bench.training:train",
    "transfer": "edge_sdk.cli.bench.transfer:send",
}


class Reporter(Protocol):
    """A part's way to tell how far it is."""

    def progress(self, done: int, of: int | None, note: str = "") -> None:
        """Show that so many steps of so many are done."""

    def mark(self, name: str) -> None:
        """Let the parent note the seconds since the start of the process, as `<name>_seconds` of the values."""


class Skip(Exception):
    """The part does not apply here; the message says why, and what to do to have it."""


def part_named(name: str) -> Callable[[Values, Reporter], Values]:
    """The function of a part."""
    module, _, function = PARTS[name].partition(":")
    part: Callable[[Values, Reporter], Values] = getattr(import_module(module), function)
    return part
