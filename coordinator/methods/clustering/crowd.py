"""Devices and how alike they are, as far as finding groups among them needs to know."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from coordinator.methods.clustering.evidence import Labels, Matrix


class Crowd(ABC):
    """n devices in m items: an item is what grouping never takes apart, one device or several that are nearly equal.

    A device's similarity to itself is 1.

    Attributes:
        items: (m, m) mean similarities between the devices of two items.
        own: (n,) the item of each device.
        sizes: (m,) how many devices an item has.
        exact: whether every device is an item.
    """

    exact: bool

    def __init__(self, items: Matrix, own: Labels) -> None:
        self.items = items
        self.own = own
        self.sizes = np.bincount(own, minlength=len(items))

    def __len__(self) -> int:
        return len(self.own)

    @abstractmethod
    def totals(self, labels: Labels) -> Matrix:
        """(n, k): the sum of each device's similarities to the devices of each group; labels: (n,), 0 … k-1."""

    @abstractmethod
    def totals_of_items(self, labels: Labels) -> Matrix:
        """The same for groups of whole items; labels: (m,)."""

    @abstractmethod
    def plane(self) -> Matrix:
        """(n, 2) points, like devices near each other, for people to look at."""


def means_to_groups(totals: Matrix, labels: Labels) -> Matrix:
    """(n, k): each device's mean similarity to each group; to its own, without itself. A lone device's own is 0."""
    counts = np.bincount(labels, minlength=totals.shape[1]).astype(np.float64)
    means: Matrix = totals / np.maximum(counts, 1)
    rows = np.arange(len(labels))
    others = counts[labels] - 1
    means[rows, labels] = (totals[rows, labels] - 1.0) / np.maximum(others, 1)
    means[rows[others == 0], labels[others == 0]] = 0.0
    return means


def own_and_best_other(means: Matrix, labels: Labels) -> tuple[Matrix, Matrix]:
    """Of `means_to_groups` with at least two groups: (n,) to the own group, (n,) to the most similar other one."""
    rows = np.arange(len(labels))
    others = means.copy()
    others[rows, labels] = -np.inf
    own: Matrix = means[rows, labels]
    best: Matrix = others.max(axis=1)
    return own, best


def numbered(labels: Labels) -> Labels:
    """The same groups, numbered 0 … k-1 by first appearance."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.empty(len(first), dtype=np.int64)
    order[np.argsort(first)] = np.arange(len(first))
    return order[inverse]
