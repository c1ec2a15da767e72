"""Level "local": no code leaves the device. It chooses its cluster alone, and answers under masks only."""

from __future__ import annotations

from edge_sdk.privacy.coarse import Coarse


class Local(Coarse):
    """The code of level "coarse", which stays on the device: see `questions` for what it is asked about it."""

    name = "local"
    leaves = False
    hides_not = (
        "No code leaves this device. Sums over many devices show the clusters' tastes and sizes and, if a device comes "
        "or goes alone, by their difference which cluster is its own."
    )
    shows_pictures = ""

    def size(self, dimensions: int | None) -> int | None:
        return 0

    def picture_size(self, dimensions: int) -> int:
        return 0
