"""Clustering by trained adapters: the principal angles between their output subspaces.

It sees a difference in style behind the same words, which prompt codes do not show. Devices without an adapter are
compared by their prompt codes, as are all devices before the first round of training.

Source: the subspace similarity of HiLoRA (arXiv 2603.02785).
"""

from __future__ import annotations

from coordinator.methods.clustering.blends.base import Grouping
from coordinator.methods.clustering.evidence import Blend, Evidence


class ByAdapter(Grouping, frozen=True, kw_only=True):
    """Trained adapters alone: S = S_adapter, ||U_i^T U_j||_F^2 / sqrt(r_i r_j), averaged over layers and centred.

    Source: the subspace similarity of HiLoRA (arXiv 2603.02785).
    """

    method: str = "adapter"

    def __call__(self, evidence: Evidence) -> Blend:
        return Blend(prompt=0.0, adapter=1.0)
