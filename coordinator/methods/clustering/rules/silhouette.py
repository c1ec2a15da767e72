"""Number of clusters by the best mean silhouette (Rousseeuw 1987)."""

from __future__ import annotations

import numpy as np

from coordinator.methods.clustering.evidence import Labels, Matrix
from coordinator.methods.clustering.rules.cuts import HYSTERESIS, Cuts
from coordinator.methods.clustering.similarities import Crowd, means_to_groups, own_and_best_other


def silhouette(crowd: Crowd, cuts: Cuts, present: int) -> Labels:
    """Cut into the k with the best mean silhouette; one group if none reaches the crowd's least one."""
    best, best_score = np.zeros(len(crowd.items), dtype=np.int64), crowd.least_silhouette
    for wanted in range(2, min(cuts.most, len(crowd.items) - 1) + 1):
        labels = cuts.into(wanted)
        found = int(labels.max()) + 1
        if not 2 <= found < len(crowd):
            continue
        score = mean_silhouette(crowd.totals_of_items(labels), labels[crowd.own]) + HYSTERESIS * (found == present)
        if score > best_score:
            best, best_score = labels, score
    return best


def mean_silhouette(totals: Matrix, labels: Labels) -> float:
    """Return the mean over devices of (far - near) / max(far, near), by the distance 1 - similarity.

    near and far are the mean distances to the own and to the nearest other group; a device alone in its group counts 0.
    They follow from `Crowd.totals`, without looking at pairs of devices.
    """
    own, best_other = own_and_best_other(means_to_groups(totals, labels), labels)
    near, far = 1.0 - own, 1.0 - best_other
    largest = np.maximum(near, far)
    scores = np.where(largest > 0, (far - near) / np.where(largest > 0, largest, 1.0), 0.0)
    alone = np.bincount(labels)[labels] == 1
    return float(np.where(alone, 0.0, scores).mean())
