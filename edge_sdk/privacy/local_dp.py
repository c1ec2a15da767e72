"""Level "local+dp": level "local", and the sums that clusters are found by have noise that hides each device."""

from __future__ import annotations

from edge_sdk.privacy.local import Local


class LocalDP(Local):
    """The code of level "coarse", which stays on the device: see `noise` for its answers, and their limit."""

    name = "local+dp"
    noisy = True
    hides_not = (
        "No code leaves this device, and noise hides its part in the sums by which clusters are found. Each round's "
        "counts and sums of updates have no noise: if a device comes or goes alone, their difference shows its cluster."
    )
