"""Clustering by what devices draw and by what their adapters have learnt (the default).

    S = w S_prompt + (1 - w) S_adapter

w is 1 as long as nobody has trained and halves with each round down to `LEAST`.
"""

from __future__ import annotations

from coordinator.methods.clustering.evidence import Blend, Evidence

LEAST = 0.25


def fused(evidence: Evidence) -> Blend:
    weight = prompt_weight(evidence.rounds)
    return Blend(prompt=weight, adapter=1.0 - weight)


def prompt_weight(rounds: int) -> float:
    """w after so many rounds of adapters."""
    return max(LEAST, 0.5**rounds)
