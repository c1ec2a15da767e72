"""Defaults that depend on the privacy level: a file of level "local" need not name the methods that go with it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from coordinator.rounds import LARGEST_SUM

LOCAL: Mapping[str, Any] = MappingProxyType(
    {
        "min_devices": 6,  # of two clusters of the smallest size
        "max_devices": LARGEST_SUM,
        "aggregation": {"method": "fedit"},
        "clustering": {"method": "sums"},
    }
)
"""Keys of a file of level "local", where it has none: those of a table one by one."""


def with_defaults(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the content of a federation file with the defaults of its level."""
    if table.get("privacy") != "local":
        return table
    filled = {**LOCAL, **table}
    for key, default in LOCAL.items():
        if isinstance(default, dict) and isinstance(own := filled[key], dict):
            filled[key] = {**default, **own}
    return filled
