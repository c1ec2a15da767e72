"""Sessions of devices: which one is the present one, by births and deaths that may come late or from a wrong clock.

A session has an epoch; that of a later one is higher, unless the device has lost its home *and* its clock begins in the
past. Then its birth looks like one of long ago. It counts once the device says Join: that nobody says for a session of
long ago. What its earlier sessions say with their higher epochs is void from then on.
"""

from __future__ import annotations

from msgspec.structs import replace

from coordinator.rounds.state import Device


def is_current(known: Device, epoch: int) -> bool:
    """Whether a birth or death concerns the present session, or begins another one."""
    if epoch == known.epoch:
        return True
    return epoch > max(known.epoch, known.outlived)


def noted(known: Device, *, online: bool, epoch: int) -> Device:
    """What is to be remembered of a birth or death that is not current: nothing of a death."""
    return replace(known, claimed=epoch) if online and epoch != known.claimed else known


def renewed(known: Device) -> Device:
    """The device says Join: the session that was born last is the present one."""
    if known.claimed is None:
        return known
    outlived = max(known.outlived, known.epoch)
    return replace(known, epoch=known.claimed, outlived=outlived, claimed=None)


def begun(known: Device, epoch: int) -> Device:
    """A current birth or death was heard."""
    former = (known.epoch or None) if epoch != known.epoch else known.former
    return replace(known, epoch=epoch, former=former, claimed=None)


def is_doubled(known: Device, *, online: bool, epoch: int) -> bool:
    """Whether a birth says that two sessions of one identity are alive: one that was followed by another is back."""
    return online and epoch == known.former and epoch != known.epoch and known.offline_since is None
