"""What is known of the devices when they are clustered, and the geometry that all clusterers share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edge_sdk.adapter.algebra import Bases

Matrix: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """codes: (devices, dimensions) prompt codes; bases: by layer the left singular basis of what each device's last
    training changed (its update minus the adapter that it started from), None where it has not trained yet; rounds: how
    many rounds of training there were."""

    codes: Matrix
    bases: Sequence[Bases | None]
    rounds: int


Clusterer: TypeAlias = Callable[[Evidence], Matrix]
"""Evidence -> (devices, devices) symmetric similarities, 1 on the diagonal."""


def centred_cosines(gram: Matrix) -> Matrix:
    """Cosines between the devices' deviations from their mean, from the inner products (n, n) of their features.

    Mean embeddings are all alike, and so are the subspaces of adapters that started from one initialisation: what tells
    devices apart is their deviation from the mean over devices. Centring the Gram matrix on both sides equals centring
    the features themselves (as in kernel PCA, Schölkopf et al. 1998), so it serves codes and subspaces alike.
    """
    centred = gram - gram.mean(axis=0, keepdims=True) - gram.mean(axis=1, keepdims=True) + gram.mean()
    lengths = np.sqrt(np.maximum(np.diag(centred), 0.0))
    scale = np.sqrt(np.maximum(np.diag(gram), 0.0)).max(initial=0.0)
    safe = np.where(lengths > 1e-9 * scale, lengths, np.inf)  # a device that is the mean itself resembles nobody
    cosines: Matrix = np.clip(centred / np.outer(safe, safe), -1.0, 1.0)
    np.fill_diagonal(cosines, 1.0)
    return cosines
