"""Clusters keep to themselves."""

from __future__ import annotations

from collections.abc import Mapping

from coordinator.interaction.base import Strength
from edge_sdk.adapter import Adapter


def none(adapters: Mapping[int, Adapter], rank: int, strength: Strength) -> dict[int, Adapter]:
    return dict(adapters)
