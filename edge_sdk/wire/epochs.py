"""Epochs: numbers of lives, of a coordinator and of a device's sessions, which grow whatever clocks and disks do.

An epoch is the Unix time in seconds at which its life began, or one more than the last epoch where that is later. So it
grows where the disk was lost, by the clock, and where the clock was set back, by the disk.
"""

from __future__ import annotations

import time

from edge_sdk.errors import ConfigurationError
from edge_sdk.wire.messages import MAX_EPOCH

# No clock counts beyond this (some 34,000 years); what is left above is for counting on.
_LATEST_CLOCK = 2**40
# 2025-01-01: a clock that shows less was never set.
_EARLIEST_CLOCK = 1_735_689_600
# Seconds that the clocks of two machines may differ.
CLOCKS_AGREE = 120.0


def following(last: int, now: float) -> int:
    """The epoch of a life that begins at `now` (Unix seconds), after one with epoch `last` (0: there was none).

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
    """Why the clock that shows `now` (Unix seconds) is not to be trusted, if somebody was heard with epoch `last`."""
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
    """When a life began, in this machine's time zone, as people read it; the number itself where no calendar has it."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(epoch))
    except (OverflowError, OSError, ValueError):
        return f"{epoch:g}"


def _span(seconds: float) -> str:
    for size, unit in ((365.25 * 86400, "years"), (86400, "days"), (3600, "hours")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
