"""Sessions of devices: finds the present one from births and deaths that may arrive late or with a wrong clock.

A session has an epoch. A later session has a higher one, unless the device has lost its home *and* its clock starts in
the past. A birth is believed all the same; from then on, messages of earlier sessions with higher epochs are void,
because the broker may notice their deaths late.
"""

from __future__ import annotations

from msgspec.structs import replace

from coordinator.rounds.state import Device


def born(known: Device, epoch: int) -> Device:
    """Return the device with the session of this birth as its present one."""
    before = known.epoch
    if before is None or before == epoch:
        return replace(known, epoch=epoch)
    outlived = max(known.outlived, before) if epoch < before else known.outlived
    return replace(known, epoch=epoch, former=before, outlived=outlived)


def is_death(known: Device, epoch: int) -> bool:
    """Return True if a death is that of the present session, or of a later one whose birth was not received."""
    return epoch == known.epoch or epoch > max(known.epoch or 0, known.outlived)


def is_doubled(known: Device, epoch: int) -> bool:
    """Return True if a birth shows two live sessions of one identity: an earlier session, already replaced, is back."""
    return epoch == known.former and epoch != known.epoch and known.until is None
