"""The groups that the coordinator finds from codes: what a level leaves of the clustering."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import adjusted_rand_score

from coordinator.learning import Standing, comparable
from coordinator.methods.clustering import CLUSTERERS, Evidence, compare, partition
from edge_sdk.privacy import Level


def found_groups(codes: Sequence[bytes], level: Level, clusters: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the group of each device, as the coordinator finds it before the first round; clusters 0: any number."""
    evidence = Evidence(comparable(codes, [Standing.SEEN] * len(codes), level), (None,) * len(codes), 0)
    crowd = compare(evidence, CLUSTERERS["prompt"]()(evidence))
    return partition(crowd, clusters=clusters)


def agreement(truth: Sequence[int], found: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
    """Return the adjusted Rand index: 1 is perfect, 0 chance."""
    return float(adjusted_rand_score(truth, found))
