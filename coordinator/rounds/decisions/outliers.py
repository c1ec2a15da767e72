"""Outliers: updates whose numbers are finite but so large that one of them would outweigh all others."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from coordinator.rounds.state import Update

# Largest norm of an update, in medians of its round's norms.
OUTLIER = 1000.0
UPDATE_OUTLIER = "UpdateOutlier"


def outliers(number: int, updates: Mapping[str, Update]) -> dict[str, str]:
    """Return device -> reason, for every update of round `number` that is an outlier.

    Of two updates neither can be called the outlier, and there is none where most updates changed nothing.
    """
    median = statistics.median(update.norm for update in updates.values()) if updates else 0.0
    return {
        name: f"What training changed has norm {update.norm:.3g}, more than {OUTLIER:g} times the median of round "
        f"{number}: lower the learning rate, or look for damaged pictures."
        for name, update in updates.items()
        if update.norm > OUTLIER * median > 0
    }
