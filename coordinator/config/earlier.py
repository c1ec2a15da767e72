"""Settings that earlier versions recorded in the database, as this one records them: by table and key.

Files of those versions were flat. Their `aggregation = "product"` is now `aggregation.method`, their `carry` is
`aggregation.carry`; a learning rate or momentum of the server optimiser that was left out was recorded as 0 or None.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from coordinator.config.tables import FAMILIES
from edge_sdk.adapter import LAYER_SETS
from edge_sdk.errors import ConfigurationError

# Table -> its key now -> the flat key.
_FLAT: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "aggregation": {"carry": "carry", "server_rank": "server_rank"},
        "server_optimiser": {"learning_rate": "server_learning_rate", "momentum": "server_momentum"},
        "filter": {"liars": "liars"},
        "clustering": {key: key for key in ("clusters", "choose", "recluster", "min_cluster")},
        "interaction": {"rho": "rho", "tau": "tau"},
    }
)


def in_tables(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return recorded settings by table and key; those of this version as they are.

    Of the flat settings only those are kept that the method of that time has: the others had no effect.
    """
    found = dict(recorded)
    # Before there was a key of that name, "layers" stood for the hash of their shapes, and devices trained attention.
    if "layers" in found and found["layers"] not in LAYER_SETS:
        found = {**found, "layers": "attention", "layer_shapes": found["layers"]}
    for table, keys in _FLAT.items():
        if table not in recorded:
            continue
        method = found.pop(table)
        found[f"{table}.method"] = method
        flat = {key: found.pop(old) for key, old in keys.items() if old in found}
        known = _defaults(table, method)
        for key, value in flat.items():
            if known is None or key in known:
                left_to_method = table == "server_optimiser" and (value is None or (key, value) == ("learning_rate", 0))
                if not left_to_method:
                    found[f"{table}.{key}"] = value
                elif known is not None:
                    found[f"{table}.{key}"] = known[key]
    return found


def _defaults(table: str, method: str) -> dict[str, Any] | None:
    """Return the keys of a method, with their defaults; None if the method is not installed any more."""
    try:
        kind = FAMILIES[table].settings(method)
    except (KeyError, ConfigurationError):
        return None
    return {field.name: field.default for field in msgspec.structs.fields(kind)}
