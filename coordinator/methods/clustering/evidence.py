"""Evidence about the devices for clustering, and its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from coordinator.methods.clustering.sketch import Sketches
from edge_sdk.adapter import Bases

Matrix: TypeAlias = npt.NDArray[np.float64]
Labels: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Evidence:
    """Evidence about n devices.

    Attributes:
        codes: (n, dimensions) prompt codes.
        bases: for each device, by layer, the left singular basis of the change by its last training (its update minus
            the adapter that it started from); None for a device that has not trained yet.
        rounds: number of training rounds so far.
        sketches: sketches of the bases, if these are too many for memory; None: computed from the bases when needed.
    """

    codes: Matrix
    bases: Sequence[Bases | None]
    rounds: int
    sketches: Sketches | None = None


@dataclass(frozen=True)
class Blend:
    """Weights of the kinds of evidence in the similarity of two devices.

        S = prompt S_prompt + adapter S_adapter + (1 - prompt - adapter)

    If one of the two has no adapter yet, S = (prompt + adapter) S_prompt + (1 - prompt - adapter). S_prompt are cosines
    of centred prompt codes, S_adapter of centred subspaces, both from -1 to 1. The remaining weight treats all devices
    as alike.

    Attributes:
        prompt: weight of S_prompt, in [0, 1].
        adapter: weight of S_adapter, in [0, 1].
    """

    prompt: float
    adapter: float
