"""Federations for tests, from the content of their file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from coordinator.config import Federation, resolve


def federation_of(**keys: Any) -> Federation:
    """A federation with these keys; a table of methods may be a method's name alone. Codes are of level "plain"."""
    tables = {"aggregation", "server_optimiser", "filter", "clustering", "interaction"}
    named = {key: {"method": value} for key, value in keys.items() if key in tables and isinstance(value, str)}
    return resolve(
        {"name": "tastes", "slots": "impasto.json", "privacy": "plain", "allow_plain": True, **keys, **named},
        folder=Path("/somewhere"),
    )
