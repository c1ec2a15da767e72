"""From similarities to groups: average linkage, as many groups as asked for or as the rule finds, none too small."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from coordinator.methods import Registry, not_callable
from coordinator.methods.clustering.crowd import Crowd, means_to_groups, numbered
from coordinator.methods.clustering.cuts import Cuts
from coordinator.methods.clustering.eigengap import eigengap
from coordinator.methods.clustering.evidence import Labels
from coordinator.methods.clustering.significant import significant
from coordinator.methods.clustering.silhouette import silhouette

Rule: TypeAlias = Callable[[Crowd, Cuts, int], Labels]
"""Crowd, cuts of its tree, the number of clusters until now -> a group for each item. It keeps to the present number
unless another is clearly better."""

_RULES: dict[str, Rule] = {"silhouette": silhouette, "eigengap": eigengap, "significant": significant}
RULES: Registry[Rule] = Registry("impasto.choices", _RULES, not_callable)

_PASSES = 2  # of refinement


def partition(
    crowd: Crowd, *, clusters: int = 0, choose: str = "significant", smallest: int = 2, present: int = 0
) -> Labels:
    """Group n devices; returns labels 0 … k-1, numbered by first appearance.

    clusters: how many, 0 leaves it to the rule `choose`; smallest: no group has fewer devices (unless all have fewer);
    present: the number of clusters until now. A given number is an upper bound: there are fewer where
    so many groups of that size cannot be cut.
    """
    if len(crowd.items) < 2 or clusters == 1:
        return np.zeros(len(crowd), dtype=np.int64)
    cuts = Cuts(crowd, smallest)
    labels = (cuts.exactly(clusters) if clusters else RULES[choose](crowd, cuts, present))[crowd.own]
    return _refined(crowd, labels, smallest)


def groups(labels: Labels, devices: Sequence[str]) -> list[set[str]]:
    """The devices of each label."""
    found: list[set[str]] = [set() for _ in range(int(labels.max(initial=-1)) + 1)]
    for device, label in zip(devices, labels, strict=True):
        found[label].add(device)
    return found


def _refined(crowd: Crowd, labels: Labels, smallest: int) -> Labels:
    """Let each device join the group that it resembles most: what linkage has once joined, it cannot part again."""
    for _ in range(_PASSES if labels.max() else 0):
        means = means_to_groups(crowd.totals(labels), labels)
        moved = means.argmax(axis=1)
        if np.bincount(moved, minlength=means.shape[1]).min() < smallest:
            break
        labels = moved
    return numbered(labels)
