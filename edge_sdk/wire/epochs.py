"""Epochs: numbers of a coordinator's starts and of a device's sessions, which grow whatever clocks and disks do.

An epoch is the Unix time in seconds at the start, or one more than the last epoch if that is larger. So it grows by the
clock if the disk was lost, and by the disk if the clock was set back.
"""

from __future__ import annotations

import time

from edge_sdk.errors import ConfigurationError
from edge_sdk.wire.messages import MAX_EPOCH

# Clocks are not followed beyond this (some 34,000 years); the numbers above are left for counting on.
_LATEST_CLOCK = 2**40
# 2025-01-01: a clock that shows an earlier time was never set.
_EARLIEST_CLOCK = 1_735_689_600
# Seconds that the clocks of two machines may differ.
CLOCKS_AGREE = 120.0


def following(last: int, now: float) -> int:
    """The epoch of a start at `now` (Unix seconds), after one with epoch `last` (0 if there was none).

    Raises:
        ConfigurationError: no larger number is left.
    """
    if last >= MAX_EPOCH:
        raise ConfigurationError(
            f"Epoch {last} was used before, and there is no larger one: take a new key and a new home, and let devices "
            "join afresh."
        )
    return max(last + 1, min(int(now), _LATEST_CLOCK))


def clock_trouble(last: int, now: float) -> str | None:
    """Return the reason why the clock at `now` (Unix seconds) is wrong, given epoch `last`; None if it seems right."""
    if now < _EARLIEST_CLOCK:
        return (
            "This machine's clock was never set: it shows a time before 2025. Certificates and invitations go by it: "
            "set it by the network (`timedatectl set-ntp true`)."
        )
    if last > now + CLOCKS_AGREE:
        return (
            f"This machine's clock is {_span(last - now)} behind that of an earlier start, or of the coordinator: one "
            "of the two is or was wrong. What is counted goes on from there; certificates and invitations go by the "
            "clock."
        )
    return None


def shown(epoch: float) -> str:
    """Date and time of an epoch in this machine's time zone; the number itself if no calendar has it."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(epoch))
    except (OverflowError, OSError, ValueError):
        return f"{epoch:g}"


def _span(seconds: float) -> str:
    for size, unit in ((365.25 * 86400, "years"), (86400, "days"), (3600, "hours")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
