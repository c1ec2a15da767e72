"""What all interactions have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from edge_sdk.adapter import Adapter


@dataclass(frozen=True)
class Strength:
    """rho: the share that comes from attention over the clusters, in [0, 1]; tau: its temperature, positive."""

    rho: float
    tau: float


Interaction: TypeAlias = Callable[[Mapping[int, Adapter], int, Strength], dict[int, Adapter]]
"""(cluster -> adapter, rank, strength) -> cluster -> adapter of at most that rank."""
