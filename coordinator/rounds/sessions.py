"""Sessions of devices: which one is the present one, by births and deaths that may come late or from a wrong clock.

A session has an epoch; that of a later one is higher, unless the device has lost its home *and* its clock begins in the
past. A birth is believed all the same. What the sessions before it say with their higher epochs is void from then on:
the broker may notice their deaths late.
"""

from __future__ import annotations

from msgspec.structs import replace

from coordinator.rounds.state import Device


def born(known: Device, epoch: int) -> Device:
    """A session was born: it is the present one."""
    before = known.epoch
    if before is None or before == epoch:
        return replace(known, epoch=epoch)
    outlived = max(known.outlived, before) if epoch < before else known.outlived
    return replace(known, epoch=epoch, former=before, outlived=outlived)


def is_death(known: Device, epoch: int) -> bool:
    """Whether a death is that of the present session, or of a later one of which nothing was heard."""
    return epoch == known.epoch or epoch > max(known.epoch or 0, known.outlived)


def is_doubled(known: Device, epoch: int) -> bool:
    """Whether a birth says that two sessions of one identity are alive: one that was followed by another is back."""
    return epoch == known.former and epoch != known.epoch and known.until is None
