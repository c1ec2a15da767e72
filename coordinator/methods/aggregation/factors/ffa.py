"""FFA-LoRA (Sun et al., arXiv 2403.12313): A stays the common initialisation, B is trained and averaged.

With one A for all, the mean of B gives the exact mean of the products. A device of smaller rank has the first rows of
that A, so its B is padded with zero columns. Devices send half the bytes, but training is confined to the rows of a
random A.
"""

from __future__ import annotations

from typing import ClassVar

from coordinator.methods.aggregation.base import AggregatorSettings, MaskableSettings
from coordinator.methods.aggregation.factors.mean import FactorMean
from coordinator.methods.aggregation.sums import paired
from edge_sdk.adapter import Adapter, Share


class FFA(FactorMean):
    """FFA-LoRA: start = (mean B) A, with A frozen at the common initialisation.

    Exact, linear, mixed ranks. Updates may be summed under masks, then of one rank. Source: Sun et al., arXiv
    2403.12313.
    """

    Settings: ClassVar[type[AggregatorSettings]] = MaskableSettings
    mixed_ranks: ClassVar[bool] = True
    exact: ClassVar[bool] = True

    @classmethod
    def share(cls, turn: int) -> Share:
        return Share.B

    def _mean(self) -> Adapter:
        # Every row of A is the same on all devices that have it; a device without the row must not shrink it.
        return paired(self._a.mean_of_owners(), self._b.mean(), self._a.kernels, self._base_id)
