"""Drift of clusters: a measure of how much nearer each device is to its own cluster than to any other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coordinator.methods.clustering.similarities import Crowd, own_and_best_other

# Clusters are stale when the margin has lost this share. The margin of a device whose taste moves to another cluster
# turns into about its opposite, so a tenth of the devices costs a fifth. Noise between rounds costs less than 0.1.
STALE = 0.2


def margin(crowd: Crowd, clusters: Sequence[int]) -> float | None:
    """Return the mean over devices of (similarity to the own cluster - to the most similar other one).

    Both are by `Crowd.means`; None if there is no other cluster.
    """
    names, labels = np.unique(clusters, return_inverse=True)
    if len(names) < 2:
        return None
    own, best_other = own_and_best_other(crowd.means(labels), labels)
    return float((own - best_other).mean())


def is_stale(before: float | None, now: float | None) -> bool:
    """Return True if the devices are to be clustered anew.

    Without a margin they always are: a single cluster cannot show that it has come apart.

    Args:
        before: the margin right after the last clustering.
        now: the margin of the same clusters with today's evidence.
    """
    return before is None or now is None or before <= 0 or now < (1 - STALE) * before


def with_newcomers(crowd: Crowd, clusters: Sequence[int | None]) -> list[int]:
    """Return the same clusters; a device without one (None) gets the cluster of highest mean similarity.

    Raises:
        ValueError: no device has a cluster.
    """
    known = [cluster for cluster in clusters if cluster is not None]
    if not known:
        raise ValueError("No device has a cluster that newcomers could join.")
    names = np.unique(known)
    # Newcomers form a group of their own, which no device is compared with.
    places = [len(names) if c is None else int(np.searchsorted(names, c)) for c in clusters]
    labels = np.array(places, dtype=np.int64)
    likest = crowd.means(labels)[:, : len(names)].argmax(axis=1)
    return [int(names[likest[i]]) if c is None else c for i, c in enumerate(clusters)]
