"""What all interactions have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from edge_sdk.adapter import Adapter, Shape


@dataclass(frozen=True)
class Strength:
    """rho: the share that comes from attention over the clusters, in [0, 1]; tau: its temperature, positive."""

    rho: float
    tau: float


class Interaction(ABC):
    """How clusters teach each other, or keep out of each other's way. It never sees a device.

    Attributes:
        frozen_a: whether it holds only while devices keep A and train B alone.
        whole: whether it needs all that a cluster has learnt in one adapter, which methods do not give that fold
            something away or leave a factor at home.
    """

    frozen_a: ClassVar[bool] = False
    whole: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, adapters: Mapping[int, Adapter], rank: int, strength: Strength) -> dict[int, Adapter]:
        """What the clusters have learnt in a round -> what they go on from, of at most that rank."""

    def begin(
        self, new: Sequence[int], known: Mapping[int, Adapter], slots: Mapping[str, Shape], rank: int, seed: int
    ) -> dict[int, Adapter]:
        """Where new clusters begin, beside those that are known; by default at the initialisation of all.

        Raises:
            ConfigurationError: there is no room for so many.
        """
        return {}
