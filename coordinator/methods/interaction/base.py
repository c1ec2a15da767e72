"""The base class of all interactions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from coordinator.methods import MethodSettings
from edge_sdk.adapter import Adapter, Shape


class Interaction(MethodSettings, frozen=True, kw_only=True):
    """Lets clusters teach each other, or keeps them apart. Its fields are the keys of the table [interaction].

    It never sees a device.

    Attributes:
        frozen_a: true if it holds only while devices keep A and train B alone.
        whole: true if it needs all that a cluster has learnt in one adapter. Aggregators that fold, or that keep a
            factor on the device, do not provide this.
    """

    frozen_a: ClassVar[bool] = False
    whole: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, adapters: Mapping[int, Adapter], rank: int) -> dict[int, Adapter]:
        """Return the adapters that clusters continue from, of at most this rank, for their adapters after a round."""

    def begin(
        self, new: Sequence[int], known: Mapping[int, Adapter], slots: Mapping[str, Shape], rank: int, seed: int
    ) -> dict[int, Adapter]:
        """Return the initial adapters of new clusters, beside the known ones; by default none, so that all start alike.

        Args:
            new: numbers of the new clusters.
            known: adapters of the known clusters.
            slots: shapes of the layers.
            rank: rank of the adapters.
            seed: seed of the initialisation.

        Raises:
            ConfigurationError: there is no room for so many clusters.
        """
        return {}
