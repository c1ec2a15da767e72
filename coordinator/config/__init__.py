"""The federation file, one TOML file with all settings of an operator, and the rules for changing it between starts.

schema.py        the file's keys, types and bounds
tables.py        its tables, one for each family of methods; the methods declare the keys
reading.py       from the file to a `Federation`, the resolved settings
checks.py        combinations that make no federation
effects.py       keys without effect
changes.py       what a change between two starts does
template.toml    the commented file of `impasto-coordinator init`
"""

from __future__ import annotations

from coordinator.config.base_model import BaseModel, read_base_model
from coordinator.config.changes import adopt, describe_changes, settings_of
from coordinator.config.effects import without_effect
from coordinator.config.federation import Federation
from coordinator.config.reading import load, parse, resolve
from coordinator.config.schema import FederationFile
from coordinator.config.tables import FAMILIES
from coordinator.config.template import name_from, template

__all__ = [
    "FAMILIES",
    "BaseModel",
    "Federation",
    "FederationFile",
    "adopt",
    "describe_changes",
    "load",
    "name_from",
    "parse",
    "read_base_model",
    "resolve",
    "settings_of",
    "template",
    "without_effect",
]
