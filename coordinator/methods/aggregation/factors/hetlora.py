"""HetLoRA (Cho et al., arXiv 2401.06432): zero-padded factors of any rank, averaged; larger updates weigh more.

The weight of an update is its number of pictures times the norm of its product, ||B_i A_i||_F: the paper's
sparsity-weighted aggregation. The paper's pruning of ranks on the device is left out. A device of smaller rank starts
from the best approximation at that rank, where the paper takes the first rows.
"""

from __future__ import annotations

from typing import ClassVar

from coordinator.methods.aggregation.factors.mean import FactorMean
from edge_sdk.adapter import Adapter, norm


class HetLoRA(FactorMean):
    """HetLoRA: start = (mean B)(mean A) of zero-padded factors, with weights w_i ||B_i A_i||_F.

    Not exact, mixed ranks. Source: Cho et al., arXiv 2401.06432.
    """

    mixed_ranks: ClassVar[bool] = True
    linear: ClassVar[bool] = False

    def _add(self, adapter: Adapter, weight: float, rest: Adapter | None) -> None:
        # An update with a zero product still has an A, which counts a little.
        super()._add(adapter, weight * max(norm(adapter), 1e-12), rest)
