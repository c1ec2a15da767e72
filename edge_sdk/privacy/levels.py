"""The privacy levels of prompt codes, by name. A new level is one file and one line in `LEVELS`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from edge_sdk.errors import ConfigurationError
from edge_sdk.privacy.coarse import Coarse
from edge_sdk.privacy.level import Level
from edge_sdk.privacy.local import Local
from edge_sdk.privacy.plain import Plain

DEFAULT = "coarse"
LEVELS: Mapping[str, Level] = MappingProxyType({level.name: level for level in (Plain(), Coarse(), Local())})

# Those whose codes leave the device.
LEAVING: Mapping[str, Level] = MappingProxyType({name: level for name, level in LEVELS.items() if level.leaves})


def level_named(name: str) -> Level:
    """Return a level by its name.

    Raises:
        ConfigurationError: there is no such level.
    """
    if name not in LEVELS:
        raise ConfigurationError(f"There is no privacy level {name[:100]!r}. Choose one of: {', '.join(LEVELS)}.")
    return LEVELS[name]


__all__ = ["DEFAULT", "LEAVING", "LEVELS", "Level", "level_named"]
