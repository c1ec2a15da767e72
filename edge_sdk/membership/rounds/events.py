"""Events: the input of the device's machine. Messages of the coordinator are events as they are."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from edge_sdk.errors import ImpastoError
from edge_sdk.secure_aggregation import FromCoordinator, Terms
from edge_sdk.wire import ClusterStart, CoordinatorState, Finished, Offer, Refused, RoundDone, RoundStart, Welcome


class Opened(msgspec.Struct, frozen=True):
    """The connection to the broker is open, and the membership begins."""


class Line(msgspec.Struct, frozen=True):
    """The connection to the broker was lost, or has come back.

    Attributes:
        online: true if it has come back.
    """

    online: bool


class Stored(msgspec.Struct, frozen=True):
    """An adapter lies in the journal, complete, checked and synced.

    Attributes:
        sha256: hash of the adapter.
        anew: false if it lay there before.
    """

    sha256: str
    anew: bool = True


class Delivered(msgspec.Struct, frozen=True):
    """The coordinator has stored the offered update."""

    sha256: str


class Failed(msgspec.Struct, frozen=True):
    """A transfer has ended without success: an adapter did not come, or an update was refused.

    Attributes:
        sha256: hash of the content.
        error: the reason.
    """

    sha256: str
    error: ImpastoError


class Trained(msgspec.Struct, frozen=True):
    """The work of a plan is done, and its update is kept in the journal.

    Attributes:
        plan: id of the plan, see `plan_id`.
        offer: the offer of the update.
    """

    plan: str
    offer: Offer


class Vanished(msgspec.Struct, frozen=True):
    """The update of a plan, which is to be handed in, is missing from the journal or damaged there."""

    plan: str


class Drawn(msgspec.Struct, frozen=True):
    """Random numbers for a masked sum are drawn, and its terms are known.

    Attributes:
        plan: id of the plan.
        terms: the terms of the attempt.
        random: `RANDOM_BYTES` of the system's generator.
    """

    plan: str
    terms: Terms
    random: bytes

    def __repr__(self) -> str:
        """The plan and the terms, so that no log shows a secret."""
        return f"Drawn({self.plan!r}, {self.terms!r})"


class VectorMade(msgspec.Struct, frozen=True):
    """The plain vector of a plan's update is made.

    Attributes:
        plan: id of the plan.
        data: the vector.
    """

    plan: str
    data: bytes

    def __repr__(self) -> str:
        """The plan and the length, so that no log shows an update."""
        return f"VectorMade({self.plan!r}, {len(self.data)} bytes)"


class SumHeard(msgspec.Struct, frozen=True):
    """The coordinator has sent a message of a masked sum, signed."""

    message: FromCoordinator


class Alone(msgspec.Struct, frozen=True):
    """Nobody coordinates the federation any more, and all adapters of its last step came in an earlier session.

    Attributes:
        ending: the last step.
    """

    ending: Finished


class InPlace(msgspec.Struct, frozen=True):
    """The last adapters lie where drawing finds them."""


class Tick(msgspec.Struct, frozen=True):
    """Time has passed, and nothing else happened."""


class Stop(msgspec.Struct, frozen=True):
    """The device's owner ends the membership."""


Event: TypeAlias = (
    Opened
    | Line
    | CoordinatorState
    | Welcome
    | RoundStart
    | ClusterStart
    | RoundDone
    | Finished
    | Refused
    | Stored
    | Delivered
    | Failed
    | Trained
    | Vanished
    | Drawn
    | VectorMade
    | SumHeard
    | Alone
    | InPlace
    | Tick
    | Stop
)  # fmt: skip
