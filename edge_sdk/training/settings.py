"""Settings of a training."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from edge_sdk.adapter import LAYER_SETS, LayerSet
from edge_sdk.errors import TrainingError


@dataclass(frozen=True)
class TrainingSettings:
    """Settings that may differ between two trainings of the same trainer."""

    rank: int
    batch_size: int
    learning_rate: float
    layers: LayerSet

    def __post_init__(self) -> None:
        if self.rank < 1 or self.batch_size < 1 or not 0 < self.learning_rate < math.inf:
            raise TrainingError("Training needs rank and batch_size of at least 1 and a learning_rate above 0.")
        if self.layers not in LAYER_SETS:
            raise TrainingError(f"layers is one of {', '.join(LAYER_SETS)}, not {self.layers!r}.")

    def changed(self, **given: Any) -> TrainingSettings:
        """The same with other values; None changes nothing."""
        return replace(self, **{name: value for name, value in given.items() if value is not None})
