"""Actions: the output of the machine, to be carried out once the new state is stored."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from coordinator.secure_aggregation.unmasking import Task
from edge_sdk.errors import ImpastoError
from edge_sdk.secure_aggregation import FromCoordinator


class Send(msgspec.Struct, frozen=True):
    """Send a message to devices."""

    devices: tuple[str, ...]
    message: FromCoordinator


class Refuse(msgspec.Struct, frozen=True):
    """Tell a device that what it sent does not count; nothing has changed."""

    device: str
    error: ImpastoError


class Discard(msgspec.Struct, frozen=True):
    """Delete a vector that is not in the sum."""

    sha256: str


class Unmask(msgspec.Struct, frozen=True):
    """Do an unmasking, then feed Summed or Failed."""

    task: Task


class Abandon(msgspec.Struct, frozen=True):
    """Tell that nothing comes of the attempt.

    Attributes:
        error: the reason.
        spent: true if devices may have answered already. They take no part in another attempt of this round, so that
            the next attempt has to be one of the next round.
    """

    error: ImpastoError
    spent: bool


Action: TypeAlias = Send | Refuse | Discard | Unmask | Abandon
