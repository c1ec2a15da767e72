"""A stays the common initialisation, B is trained and averaged, as in FFA-LoRA (Sun et al., arXiv 2403.12313).

With one A for all, the mean of the B is the exact mean of the products. A device of a smaller rank has the first rows
of that A, so its B is filled up with zero columns. Half the bytes; but what can be learnt is confined to the rows of a
random A.
"""

from __future__ import annotations

from typing import ClassVar

from coordinator.methods.aggregation.fedit import FedIT
from coordinator.methods.aggregation.sums import paired
from edge_sdk.adapter import Adapter, Share


class FFA(FedIT):
    mixed_ranks: ClassVar[bool] = True
    exact: ClassVar[bool] = True

    @classmethod
    def share(cls, turn: int) -> Share:
        return Share.B

    def _mean(self) -> Adapter:
        # Every row of A is the same wherever it is present; a device without it must not shrink it.
        return paired(self._a.mean_of_owners(), self._b.mean(), self._a.kernels, self._base_id)
