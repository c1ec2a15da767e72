"""Events: the input of the machine."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from edge_sdk.errors import ImpastoError
from edge_sdk.secure_aggregation import FromDevice


class Heard(msgspec.Struct, frozen=True):
    """A device has sent a message."""

    device: str
    message: FromDevice


class Uploaded(msgspec.Struct, frozen=True):
    """A device's masked vector is in the store, complete and synced.

    Attributes:
        device: its name.
        sha256: hash of the vector.
        size: its bytes.
    """

    device: str
    sha256: str
    size: int


class TimeUp(msgspec.Struct, frozen=True):
    """The present phase is to end with those who have answered."""


class Summed(msgspec.Struct, frozen=True):
    """The unmasking is done, and the sum is stored."""


class Failed(msgspec.Struct, frozen=True):
    """The unmasking has failed."""

    error: ImpastoError


class Restarted(msgspec.Struct, frozen=True):
    """The coordinator has started anew: what was said last may be lost."""


Event: TypeAlias = Heard | Uploaded | TimeUp | Summed | Failed | Restarted
