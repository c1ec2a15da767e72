"""Clustering by what devices draw and by what their adapters have learnt (DESIGN.md, the default).

    S = w S_prompt + (1 - w) S_adapter,    S_adapter from (1/r) ||U_i^T U_j||_F^2, averaged over the layers

with U the left singular bases of the devices' drifts. Both parts are centred over the devices, so that they are on one
scale. w is 1 as long as nobody has trained and halves with each round down to `LEAST`.
"""

from __future__ import annotations

import numpy as np

from coordinator.clustering.evidence import Evidence, Matrix, centred_cosines
from coordinator.clustering.prompt import prompt
from edge_sdk.adapter import basis_similarity

LEAST = 0.25


def fused(evidence: Evidence) -> Matrix:
    similarity = prompt(evidence)
    trained = [i for i, bases in enumerate(evidence.bases) if bases is not None]
    if len(trained) < 3:  # two centred devices are always opposites: no evidence
        return similarity
    weight = prompt_weight(evidence.rounds)
    block = np.ix_(trained, trained)
    similarity[block] = weight * similarity[block] + (1 - weight) * _adapter_similarity(evidence, trained)
    return similarity


def prompt_weight(rounds: int) -> float:
    """w after so many rounds of adapters."""
    return max(LEAST, 0.5**rounds)


def _adapter_similarity(evidence: Evidence, trained: list[int]) -> Matrix:
    known = [bases for i in trained if (bases := evidence.bases[i]) is not None]
    gram = np.ones((len(known), len(known)))
    for i, own in enumerate(known):
        for j in range(i):
            gram[i, j] = gram[j, i] = basis_similarity(own, known[j])
    return centred_cosines(gram)
