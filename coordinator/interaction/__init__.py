"""How clusters teach each other between rounds.

An interaction is a function from the clusters' adapters to the clusters' adapters; it never sees a device. A new one is
one file and one line here, or an entry point of another package.
"""

from __future__ import annotations

from coordinator.interaction.attention import attention
from coordinator.interaction.base import Interaction, Strength
from coordinator.interaction.none import none
from coordinator.registry import Registry, not_callable

_BUILT_IN: dict[str, Interaction] = {"attention": attention, "none": none}
INTERACTIONS: Registry[Interaction] = Registry("impasto.interactions", _BUILT_IN, not_callable)

__all__ = ["INTERACTIONS", "Interaction", "Strength"]
