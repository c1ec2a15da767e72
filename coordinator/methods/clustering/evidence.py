"""What is known of the devices when they are clustered, and what a clusterer makes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    """codes: (devices, dimensions) prompt codes; bases: by layer the left singular basis of what each device's last
    training changed (its update minus the adapter that it started from), None where it has not trained yet; rounds: how
    many rounds of training there were; sketches: of the bases, where those are too many to be in memory; None: made of
    them where they are needed.
    """

    codes: Matrix
    bases: Sequence[Bases | None]
    rounds: int
    sketches: Sketches | None = None


@dataclass(frozen=True)
class Blend:
    """How much each kind of evidence counts in the similarity of two devices.

        S = prompt S_prompt + adapter S_adapter + (1 - prompt - adapter)

    and, where one of the two has no adapter yet, S = (prompt + adapter) S_prompt + (1 - prompt - adapter). S_prompt are
    cosines of centred prompt codes, S_adapter of centred subspaces: both are on one scale, from -1 to 1. What neither
    kind of evidence says counts as alike.
    """

    prompt: float
    adapter: float


Clusterer: TypeAlias = Callable[[Evidence], Blend]
