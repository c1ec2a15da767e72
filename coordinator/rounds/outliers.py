"""Updates whose numbers are finite and still absurd: one of them would wipe out all others."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from coordinator.rounds.state import Update

# Times the median of a round's norms that an update may be.
OUTLIER = 1000.0
UPDATE_OUTLIER = "UpdateOutlier"


def outliers(number: int, updates: Mapping[str, Update]) -> dict[str, str]:
    """Device -> why its update of round `number` cannot count.

    Of two updates nobody can say which is the absurd one, nor of any where most have changed nothing.
    """
    median = statistics.median(update.norm for update in updates.values()) if updates else 0.0
    return {
        name: f"What training changed has norm {update.norm:.3g}, more than {OUTLIER:g} times the median of round "
        f"{number}: lower the learning rate, or look for damaged pictures."
        for name, update in updates.items()
        if update.norm > OUTLIER * median > 0
    }
