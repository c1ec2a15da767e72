"""How clusters teach each other between rounds.

A new way is one file and one line here.
"""

from __future__ import annotations

from coordinator.interaction.attention import Attention
from coordinator.interaction.base import Interaction, Strength
from coordinator.interaction.disjoint import Disjoint
from coordinator.interaction.none import Alone

INTERACTIONS: dict[str, Interaction] = {"attention": Attention(), "none": Alone(), "disjoint": Disjoint()}

__all__ = ["INTERACTIONS", "Interaction", "Strength"]
