"""Clustering by prompt codes and by trained adapters (the default).

    S = w S_prompt + (1 - w) S_adapter

w is 1 before any training and halves with each round down to `LEAST`.
"""

from __future__ import annotations

from coordinator.methods.clustering.evidence import Blend, Evidence

LEAST = 0.25


def fused(evidence: Evidence) -> Blend:
    """Return S = w S_prompt + (1 - w) S_adapter, with w = max(`LEAST`, 2^-rounds)."""
    weight = prompt_weight(evidence.rounds)
    return Blend(prompt=weight, adapter=1.0 - weight)


def prompt_weight(rounds: int) -> float:
    """Return w after so many training rounds."""
    return max(LEAST, 0.5**rounds)
