"""Evidence about the devices for clustering, and its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from coordinator.methods.clustering.sketch import Sketches
from edge_sdk.adapter import Bases

Matrix: TypeAlias = npt.NDArray[np.float64]
Labels: TypeAlias = npt.NDArray[np.int64]
LEAST_PICTURED = 3  # picture codes that are compared with each other


@dataclass(frozen=True)
class Evidence:
    """Evidence about n devices.

    Attributes:
        codes: (n, dimensions) prompt codes.
        bases: for each device, by layer, the left singular basis of the change by its last training (its update minus
            the adapter that it started from); None for a device that has not trained yet.
        rounds: number of training rounds so far.
        sketches: sketches of the bases, if these are too many for memory; None: computed from the bases when needed.
        pictures: (n, dimensions) picture codes, NaN for a device without one; None: no device has one, or the
            clusterer does not look at them.
    """

    codes: Matrix
    bases: Sequence[Bases | None]
    rounds: int
    sketches: Sketches | None = None
    pictures: Matrix | None = None

    @property
    def pictured(self) -> npt.NDArray[np.bool_]:
        """(n,) mask of the devices with a picture code."""
        if self.pictures is None:
            return np.zeros(len(self.codes), dtype=bool)
        known: npt.NDArray[np.bool_] = np.all(np.isfinite(self.pictures), axis=1)
        return known

    @property
    def mostly_pictured(self) -> bool:
        """True if more than half of the devices, and at least `LEAST_PICTURED`, have a picture code."""
        known = int(self.pictured.sum())
        return known >= LEAST_PICTURED and 2 * known > len(self.codes)

    @property
    def trained(self) -> npt.NDArray[np.bool_]:
        """(n,) mask of the devices with an adapter."""
        if self.sketches is not None:
            return self.sketches.trained
        known = np.zeros(len(self.codes), dtype=bool)
        for device, bases in enumerate(self.bases):
            known[device] = bases is not None
        return known

    def some(self, chosen: Labels) -> Evidence:
        """Return the evidence about these devices."""
        return replace(
            self,
            codes=self.codes[chosen],
            bases=[self.bases[device] for device in chosen] if len(self.bases) else (),
            sketches=self.sketches.some(chosen) if self.sketches is not None else None,
            pictures=self.pictures[chosen] if self.pictures is not None else None,
        )

    def halves(self) -> tuple[Evidence, Evidence]:
        """Return the evidence with the adapters' even layers only, and with their odd ones, in the order of names."""
        if self.sketches is not None:
            even, odd = self.sketches.halves()
            return replace(self, sketches=even), replace(self, sketches=odd)
        names = sorted({name for bases in self.bases if bases is not None for name in bases})
        halves = []
        for parity in (0, 1):
            kept = set(names[parity::2])
            bases = [b if b is None else {k: v for k, v in b.items() if k in kept} for b in self.bases]
            halves.append(replace(self, bases=bases))
        return halves[0], halves[1]


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
        pictures: true if devices with a picture code are compared by these codes alone; S is for the others.
    """

    prompt: float
    adapter: float
    pictures: bool = False
