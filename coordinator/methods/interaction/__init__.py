"""Interaction: clusters teach each other between rounds.

A new interaction is one file and one line here, or an entry point of another package.
"""

from __future__ import annotations

from coordinator.methods import Registry, not_subclass_of
from coordinator.methods.interaction.attention import Attention
from coordinator.methods.interaction.base import Interaction
from coordinator.methods.interaction.disjoint import Disjoint
from coordinator.methods.interaction.none import Alone

_BUILT_IN: dict[str, type[Interaction]] = {"attention": Attention, "none": Alone, "disjoint": Disjoint}
INTERACTIONS: Registry[type[Interaction]] = Registry("impasto.interactions", _BUILT_IN, not_subclass_of(Interaction))

__all__ = ["INTERACTIONS", "Alone", "Attention", "Disjoint", "Interaction"]
