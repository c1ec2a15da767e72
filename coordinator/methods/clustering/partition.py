"""Groups from similarities: a linkage tree, and the number of groups given or found by a rule, none too small."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coordinator.methods.clustering.drift import with_newcomers
from coordinator.methods.clustering.evidence import Labels
from coordinator.methods.clustering.rules import RULES, Cuts
from coordinator.methods.clustering.similarities import Crowd, numbered

_PASSES = 2  # of refinement


def partition(
    crowd: Crowd, *, clusters: int = 0, choose: str = "significant", smallest: int = 2, present: int = 0
) -> Labels:
    """Group n devices; return labels 0 … k-1, numbered by first appearance.

    Args:
        crowd: the devices.
        clusters: number of groups, an upper bound: there are fewer if so many groups of that size cannot be cut. 0:
            found by the rule `choose`.
        choose: name of the rule.
        smallest: least number of devices in a group (unless there are fewer devices in all).
        present: present number of clusters.
    """
    if crowd.core is not crowd:
        found = partition(crowd.core, clusters=clusters, choose=choose, smallest=smallest, present=present)
        known: list[int | None] = [None] * len(crowd)
        for device, label in zip(np.flatnonzero(crowd.in_core), found, strict=True):
            known[device] = int(label)
        return numbered(np.array(with_newcomers(crowd, known), dtype=np.int64))
    if len(crowd.items) < 2 or clusters == 1:
        return np.zeros(len(crowd), dtype=np.int64)
    cuts = Cuts(crowd, smallest)
    labels = (cuts.exactly(clusters) if clusters else RULES[choose](crowd, cuts, present))[crowd.own]
    return _refined(crowd, labels, smallest)


def groups(labels: Labels, devices: Sequence[str]) -> list[set[str]]:
    """Return the devices of each label."""
    found: list[set[str]] = [set() for _ in range(int(labels.max(initial=-1)) + 1)]
    for device, label in zip(devices, labels, strict=True):
        found[label].add(device)
    return found


def _refined(crowd: Crowd, labels: Labels, smallest: int) -> Labels:
    """Move each device to its most similar group, because linkage cannot separate what it has once joined."""
    for _ in range(_PASSES if labels.max() else 0):
        means = crowd.means(labels)
        moved = means.argmax(axis=1)
        if np.bincount(moved, minlength=means.shape[1]).min() < smallest:
            break
        labels = moved
    return numbered(labels)
