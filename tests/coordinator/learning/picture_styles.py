"""Picture codes of groups of devices, for tests, and what clusterers find in them."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import adjusted_rand_score

from coordinator.methods.clustering import (
    ByPicture,
    Evidence,
    Grouping,
    Labels,
    Matrix,
    compare,
)
from edge_sdk.privacy import LEVELS

NAN = np.nan

PLAIN, COARSE = LEVELS["plain"], LEVELS["coarse"]

ENCODER = b"e" * 32


def styles(devices: int, groups: int, seed: int = 0, pictures: int = 12) -> tuple[Matrix, Labels]:
    """Picture codes of equally large groups, the first of them far away, and the groups."""
    rng = np.random.default_rng(seed)
    centres = 3.0 * rng.normal(size=(groups, 32)) / np.sqrt(32)
    centres[0] *= 4.0
    truth = np.arange(devices) % groups
    return centres[truth] + rng.normal(size=(devices, 32)) / np.sqrt(pictures), truth


def evidence_of(pictures: Matrix, codes: Matrix | None = None) -> Evidence:
    return Evidence(np.ones((len(pictures), 4)) if codes is None else codes, (), 0, pictures=pictures)


def labels_of(evidence: Evidence, clusterer: Grouping | None = None, present: int = 0) -> Labels:
    clusterer = clusterer or ByPicture()
    return clusterer.labels(compare(evidence, clusterer(evidence)), present)


def ari(truth: object, found: object) -> float:
    return float(adjusted_rand_score(truth, found))
