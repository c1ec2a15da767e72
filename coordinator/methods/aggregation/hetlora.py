"""Factors of any rank filled up with zeros and averaged, those of larger updates weighing more, as in HetLoRA (Cho et
al., EMNLP 2024).

The weight of an update is its number of pictures times the norm of its product, ||B_i A_i||_F: the paper's
sparsity-weighted aggregation. Its pruning of ranks on the device is left out; a device of a smaller rank takes the
nearest adapter of that rank, where the paper takes the first rows.
"""

from __future__ import annotations

from typing import ClassVar

from coordinator.methods.aggregation.fedit import FedIT
from edge_sdk.adapter import Adapter, norm


class HetLoRA(FedIT):
    mixed_ranks: ClassVar[bool] = True
    linear: ClassVar[bool] = False

    def _add(self, adapter: Adapter, weight: float, rest: Adapter | None) -> None:
        # An update that is zero still has an A, and a say in it.
        super()._add(adapter, weight * max(norm(adapter), 1e-12), rest)
