"""The exact method: the similarities of all pairs of devices, O(n^2) in time and memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coordinator.methods.clustering.evidence import Blend, Evidence, Labels, Matrix
from coordinator.methods.clustering.plane import plane
from coordinator.methods.clustering.similarities import Crowd
from edge_sdk.adapter import Bases

_ROWS = 512  # columns of bases compared with all others at once: bounds memory
LEAST_TRAINED = 3  # two centred devices are always opposite, which is no evidence


class Dense(Crowd):
    """Single devices as items.

    Args:
        similarity: (n, n) symmetric similarities, 1 on the diagonal.
    """

    exact = True

    def __init__(self, similarity: Matrix) -> None:
        super().__init__(similarity, np.arange(len(similarity), dtype=np.int64))

    def totals(self, labels: Labels) -> Matrix:
        totals: Matrix = self.items @ np.eye(int(labels.max(initial=-1)) + 1)[labels]
        return totals

    def totals_of_items(self, labels: Labels) -> Matrix:
        return self.totals(labels)

    def plane(self) -> Matrix:
        return plane(self.items)


def similarity(evidence: Evidence, blend: Blend) -> Matrix:
    """Return the (devices, devices) symmetric similarities, 1 on the diagonal."""
    rest = 1.0 - blend.prompt - blend.adapter
    whole = centred_cosines(evidence.codes @ evidence.codes.T)
    blended = (blend.prompt + blend.adapter) * whole + rest
    known = {i: bases for i, bases in enumerate(evidence.bases) if bases is not None} if blend.adapter else {}
    if len(known) >= LEAST_TRAINED:
        block = np.ix_(list(known), list(known))
        subspaces = centred_cosines(basis_similarities(list(known.values())))
        blended[block] = blend.prompt * whole[block] + blend.adapter * subspaces + rest
    np.fill_diagonal(blended, 1.0)
    return blended


def centred_cosines(gram: Matrix) -> Matrix:
    """Return cosines between the devices' deviations from their mean, from the inner products (n, n) of their features.

    Mean embeddings are all alike, and so are the subspaces of adapters that started from one initialisation: devices
    differ in their deviations from the mean over devices. Centring the Gram matrix on both sides equals centring the
    features themselves (as in kernel PCA, Schölkopf et al. 1998), so it serves codes and subspaces alike.
    """
    centred = gram - gram.mean(axis=0, keepdims=True) - gram.mean(axis=1, keepdims=True) + gram.mean()
    lengths = np.sqrt(np.maximum(np.diag(centred), 0.0))
    scale = np.sqrt(np.maximum(np.diag(gram), 0.0)).max(initial=0.0)
    safe = np.where(lengths > 1e-9 * scale, lengths, np.inf)  # a device equal to the mean resembles no other
    cosines: Matrix = np.clip(centred / np.outer(safe, safe), -1.0, 1.0)
    np.fill_diagonal(cosines, 1.0)
    return cosines


def basis_similarities(known: Sequence[Bases]) -> Matrix:
    """Return `edge_sdk.adapter.basis_similarity` of all pairs, (n, n), with 1 on the diagonal.

    It takes one product a layer, of all bases side by side, instead of one per pair.
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
