"""The federation file, one TOML file with all settings of an operator, and the rules for changing it between starts."""

from __future__ import annotations

from coordinator.config.changes import adopt, describe_changes, settings_of
from coordinator.config.schema import (
    IFCA,
    BaseModel,
    Federation,
    load,
    name_from,
    parse,
    read_base_model,
    template,
    without_effect,
)

__all__ = [
    "IFCA",
    "BaseModel",
    "Federation",
    "adopt",
    "describe_changes",
    "load",
    "name_from",
    "parse",
    "read_base_model",
    "settings_of",
    "template",
    "without_effect",
]
