"""How clusters teach each other between rounds.

An interaction is a function from the clusters' adapters to the clusters' adapters; it never sees a device. A new one is
one file and one line here.
"""

from __future__ import annotations

from coordinator.interaction.attention import attention
from coordinator.interaction.base import Interaction, Strength
from coordinator.interaction.none import none

INTERACTIONS: dict[str, Interaction] = {"attention": attention, "none": none}

__all__ = ["INTERACTIONS", "Interaction", "Strength"]
