"""Defaults that depend on the privacy level: files whose devices choose alone need not name the methods of that."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from coordinator.methods.clustering import by_noisy_sums
from coordinator.rounds import LARGEST_SUM
from edge_sdk.privacy import LARGEST_EPSILON, LEVELS

_METHODS: Mapping[str, Any] = MappingProxyType({"aggregation": {"method": "fedit"}, "clustering": {"method": "sums"}})
LOCAL: Mapping[str, Any] = MappingProxyType(
    {
        "min_devices": 6,  # of two clusters of the smallest size
        "max_devices": LARGEST_SUM,
        **_METHODS,
    }
)
"""Keys of a file of level "local", where it has none: those of a table one by one."""


def with_defaults(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the content of a federation file with the defaults of its level."""
    level = LEVELS.get(str(table.get("privacy")))
    if level is None or level.leaves:
        return table
    defaults = {**_METHODS, "min_devices": _fewest(table.get("epsilon"))} if level.noisy else LOCAL
    filled = {**defaults, **table}
    for key, default in defaults.items():
        if isinstance(default, dict) and isinstance(own := filled[key], dict):
            filled[key] = {**default, **own}
    return filled


def _fewest(epsilon: object) -> int:
    """Return the fewest devices of level "local+dp"; a value that is no number is refused later."""
    number = epsilon if isinstance(epsilon, int | float) else LARGEST_EPSILON
    return by_noisy_sums.fewest_devices(number)
