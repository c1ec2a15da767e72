"""How clusters teach each other between rounds.

A new way is one file and one line here, or an entry point of another package.
"""

from __future__ import annotations

from coordinator.interaction.attention import Attention
from coordinator.interaction.base import Interaction, Strength
from coordinator.interaction.disjoint import Disjoint
from coordinator.interaction.none import Alone
from coordinator.registry import Registry, not_of

_BUILT_IN: dict[str, Interaction] = {"attention": Attention(), "none": Alone(), "disjoint": Disjoint()}
INTERACTIONS: Registry[Interaction] = Registry("impasto.interactions", _BUILT_IN, not_of(Interaction))

__all__ = ["INTERACTIONS", "Interaction", "Strength"]
