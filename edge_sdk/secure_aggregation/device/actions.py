"""Actions: the output of the machine, to be carried out once the new state is stored."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from edge_sdk.errors import ImpastoError
from edge_sdk.secure_aggregation.messages import FromDevice


class Say(msgspec.Struct, frozen=True):
    """Send a message to the coordinator."""

    message: FromDevice


class HandIn(msgspec.Struct, frozen=True):
    """Hand in the masked vector, `State.masked`."""


class Refuse(msgspec.Struct, frozen=True):
    """Tell the owner that an event was refused; nothing has changed."""

    error: ImpastoError


Action: TypeAlias = Say | HandIn | Refuse
