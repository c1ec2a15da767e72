"""Devices and their similarities, as far as grouping needs them."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from coordinator.methods.clustering.evidence import Labels, Matrix


class Crowd(ABC):
    """n devices in m items. An item is one device, or several nearly equal ones; grouping never splits it.

    A device's similarity to itself is 1.

    Attributes:
        ward: true if similarities are 1 - ||x - y||^2 / 2 of points, so that Ward's linkage suits them.
        items: (m, m) mean similarities between the devices of two items.
        own: (n,) item of each device.
        sizes: (m,) number of devices in each item.
        exact: true if every device is an item.
        least_silhouette: mean silhouette below which the devices are one group, see `rules.chance`.
    """

    exact: bool
    ward = False
    least_silhouette: float = 0.25

    def __init__(self, items: Matrix, own: Labels) -> None:
        self.items = items
        self.own = own
        self.sizes = np.bincount(own, minlength=len(items))

    def __len__(self) -> int:
        return len(self.own)

    @property
    def core(self) -> Crowd:
        """The crowd among which groups are found, usually itself; the devices beyond it join these groups."""
        return self

    @property
    def in_core(self) -> npt.NDArray[np.bool_]:
        """(n,) mask of the devices in the core."""
        return np.ones(len(self), dtype=bool)

    @abstractmethod
    def totals(self, labels: Labels) -> Matrix:
        """Return (n, k): the sum of each device's similarities to the devices of each group; labels: (n,), 0 … k-1."""

    @abstractmethod
    def totals_of_items(self, labels: Labels) -> Matrix:
        """Return the same sums for groups of whole items; labels: (m,)."""

    def means(self, labels: Labels) -> Matrix:
        """Return (n, k): each device's similarity to each group, by default the mean of those to its devices.

        That to its own group leaves the device out, and is 0 if it is alone there.
        """
        return means_to_groups(self.totals(labels), labels)

    @abstractmethod
    def plane(self) -> Matrix:
        """Return (n, 2) points for display, with similar devices near each other."""


def means_to_groups(totals: Matrix, labels: Labels) -> Matrix:
    """Return (n, k): each device's mean similarity to each group.

    The mean to its own group leaves the device out, and is 0 if it is alone there.
    """
    counts = np.bincount(labels, minlength=totals.shape[1]).astype(np.float64)
    means: Matrix = totals / np.maximum(counts, 1)
    rows = np.arange(len(labels))
    others = counts[labels] - 1
    means[rows, labels] = (totals[rows, labels] - 1.0) / np.maximum(others, 1)
    means[rows[others == 0], labels[others == 0]] = 0.0
    return means


def own_and_best_other(means: Matrix, labels: Labels) -> tuple[Matrix, Matrix]:
    """Return (n,) similarities to the own group, and (n,) to the most similar other group.

    Args:
        means: result of `means_to_groups`, with at least two groups.
        labels: (n,) group of each device.
    """
    rows = np.arange(len(labels))
    others = means.copy()
    others[rows, labels] = -np.inf
    own: Matrix = means[rows, labels]
    best: Matrix = others.max(axis=1)
    return own, best


def numbered(labels: Labels) -> Labels:
    """Return the same groups, numbered 0 … k-1 by first appearance."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.empty(len(first), dtype=np.int64)
    order[np.argsort(first)] = np.arange(len(first))
    return order[inverse]
