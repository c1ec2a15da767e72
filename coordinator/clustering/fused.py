"""Clustering by what devices draw and by what their adapters have learnt (DESIGN.md, the default).

    S = w S_prompt + (1 - w) S_adapter,    S_adapter from (1/r) ||U_i^T U_j||_F^2, averaged over the layers

with U the left singular bases of the devices' drifts. Both parts are centred over the devices, so that they are on one
scale. w is 1 as long as nobody has trained and halves with each round down to `LEAST`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coordinator.clustering.evidence import Evidence, Matrix, centred_cosines
from coordinator.clustering.prompt import prompt
from edge_sdk.adapter.algebra import Bases

LEAST = 0.25
_ROWS = 512  # columns of bases compared with all others at once: bounds memory


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
    return centred_cosines(basis_similarities(known))


def basis_similarities(known: Sequence[Bases]) -> Matrix:
    """`edge_sdk.adapter.basis_similarity` of all pairs at once, (n, n), with 1 on the diagonal.

    Per layer one product of all bases side by side, instead of one per pair.
    """
    count = len(known)
    total, layers = np.zeros((count, count)), np.zeros((count, count))
    for name in sorted({name for bases in known for name, basis in bases.items() if basis.shape[1]}):
        owners = np.array([i for i, bases in enumerate(known) if name in bases and bases[name].shape[1]])
        ranks = np.array([known[i][name].shape[1] for i in owners])
        stacked = np.hstack([known[i][name] for i in owners])
        starts = np.concatenate([[0], np.cumsum(ranks)])
        block = np.zeros((len(owners), len(owners)))
        step = max(1, _ROWS // int(ranks.max()))
        for first in range(0, len(owners), step):
            last = min(first + step, len(owners))
            squares = (stacked[:, starts[first] : starts[last]].T @ stacked) ** 2
            rows = np.add.reduceat(squares, starts[first:last] - starts[first], axis=0)
            block[first:last] = np.add.reduceat(rows, starts[:-1], axis=1)
        total[np.ix_(owners, owners)] += block / np.sqrt(np.outer(ranks, ranks))
        has = np.zeros(count, dtype=bool)
        has[owners] = True
        layers += has[:, None] | has[None, :]
    similarities: Matrix = np.minimum(1.0, total / np.maximum(layers, 1))
    np.fill_diagonal(similarities, 1.0)
    return similarities
