"""The operator's line of an event, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from coordinator.telemetry.console import describe


def words(event: Mapping[str, Any]) -> str:
    """An event's line, without markup."""
    return Text.from_markup(describe(event)).plain
