"""The privacy levels of prompt codes, by name. A new level is one file and one line in `LEVELS`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

from edge_sdk.errors import ConfigurationError
from edge_sdk.privacy.coarse import Coarse
from edge_sdk.privacy.level import Level
from edge_sdk.privacy.local import Local
from edge_sdk.privacy.local_dp import LocalDP
from edge_sdk.privacy.noise import LARGEST_EPSILON, SMALLEST_EPSILON
from edge_sdk.privacy.plain import Plain

DEFAULT = "coarse"
LEVELS: Mapping[str, Level] = MappingProxyType({level.name: level for level in (Plain(), Coarse(), Local(), LocalDP())})

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


def check_epsilon(levels: Collection[str], epsilon: float | None) -> None:
    """Raise ConfigurationError unless an owner says how much answers with noise may tell, if a level has them."""
    noisy = [name for name in levels if level_named(name).noisy]
    bounds = f"{SMALLEST_EPSILON:g} to {LARGEST_EPSILON:g}"
    if epsilon is None and noisy:
        raise ConfigurationError(
            f"Level {noisy[0]!r} needs the largest epsilon that you allow in all: give epsilon ({bounds}; `impasto "
            "join --epsilon`). Smaller tells less; the federation's may not be larger."
        )
    if epsilon is not None and not noisy:
        raise ConfigurationError(
            f'epsilon = {epsilon:g} is for level "local+dp", which is not among those that you allow: leave it out, or '
            'allow that level (`impasto join --privacy "local+dp"`).'
        )
    if epsilon is not None and not SMALLEST_EPSILON <= epsilon <= LARGEST_EPSILON:
        raise ConfigurationError(f"epsilon = {epsilon:g}: choose {bounds}.")


__all__ = ["DEFAULT", "LEAVING", "LEVELS", "Level", "check_epsilon", "level_named"]
