"""No interaction: clusters keep to themselves."""

from __future__ import annotations

from collections.abc import Mapping

from coordinator.methods.interaction.base import Interaction
from edge_sdk.adapter import Adapter


class Alone(Interaction, frozen=True, kw_only=True):
    """No interaction, C_j <- C_j: every cluster continues from its own adapter."""

    method: str = "none"

    def __call__(self, adapters: Mapping[int, Adapter], rank: int) -> dict[int, Adapter]:
        return dict(adapters)
