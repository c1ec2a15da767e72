"""Clustering by prompt codes and by trained adapters.

    S = w S_prompt + (1 - w) S_adapter

w is 1 before any training and halves with each round down to `LEAST`.
"""

from __future__ import annotations

from coordinator.methods.clustering.blends.base import Grouping
from coordinator.methods.clustering.evidence import Blend, Evidence

LEAST = 0.25


class Fused(Grouping, frozen=True, kw_only=True):
    """Prompt codes first, then adapters too: S = w S_prompt + (1 - w) S_adapter, with w = max(`LEAST`, 2^-rounds)."""

    method: str = "fused"

    def __call__(self, evidence: Evidence) -> Blend:
        weight = prompt_weight(evidence.rounds)
        return Blend(prompt=weight, adapter=1.0 - weight)


def prompt_weight(rounds: int) -> float:
    """Return w after so many training rounds."""
    return max(LEAST, 0.5**rounds)
