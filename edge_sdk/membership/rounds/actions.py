"""Actions: the output of the device's machine, to be carried out in order."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from edge_sdk.errors import ImpastoError
from edge_sdk.membership.rounds.state import Progress
from edge_sdk.privacy import Answered, Spent
from edge_sdk.secure_aggregation import device
from edge_sdk.wire import ClusterStart, Manifest, Offer, Refused, RoundStart, Step, Sum

# --- to the coordinator ---------------------------------------------------------------------------------------------


class SayJoin(msgspec.Struct, frozen=True):
    """Say Join."""


class SayHello(msgspec.Struct, frozen=True):
    """Say Hello, signed.

    Attributes:
        number: number of the hello in this session, from 1.
    """

    number: int


class SayOffer(msgspec.Struct, frozen=True):
    """Say an offer again, whose update is being handed in."""

    offer: Offer


class SayLeave(msgspec.Struct, frozen=True):
    """Say Leave, with the reason in words."""

    reason: str


class HandIn(msgspec.Struct, frozen=True):
    """Answer pulls for the update of a plan, and say its offer; feed Vanished if the update is not there."""

    plan: str
    offer: Offer


class SaySum(msgspec.Struct, frozen=True):
    """Say a message of a masked sum."""

    message: Sum


class HandInVector(msgspec.Struct, frozen=True):
    """Answer pulls for a masked vector, and say its offer.

    Attributes:
        data: the vector.
        offer: its offer.
    """

    data: bytes
    offer: Offer

    def __repr__(self) -> str:
        """The offer alone: the vector is long."""
        return f"HandInVector({self.offer!r})"


class Withdraw(msgspec.Struct, frozen=True):
    """Answer no more pulls for an update."""

    sha256: str


class Bring(msgspec.Struct, frozen=True):
    """Fetch an adapter within so many seconds, unless it is there already; then feed Stored or Failed."""

    manifest: Manifest
    seconds: float


# --- to the journal -------------------------------------------------------------------------------------------------


class Prepare(msgspec.Struct, frozen=True):
    """Keep this step if it is the last one, and forget all adapters that it does not name."""

    step: Step


class Begin(msgspec.Struct, frozen=True):
    """Store that the work of a plan begins, and forget the unfinished work of others."""

    plan: str
    round: int


class Note(msgspec.Struct, frozen=True):
    """Store the progress of a plan."""

    plan: str
    progress: Progress


class Restate(msgspec.Struct, frozen=True):
    """Store another offer for the update of a plan."""

    plan: str
    offer: Offer


class KeepSum(msgspec.Struct, frozen=True):
    """Store this device's part in a masked sum, synced.

    Attributes:
        state: the state of its machine.
        vector: true if the masked vector has changed, which is long.
        answered: the sum of a clustering that the device agrees to now; None: it agrees to none.
        spent: the privacy budget that is spent as soon as the vector leaves; None: as before.
    """

    state: device.State
    vector: bool
    answered: Answered | None = None
    spent: Spent | None = None


# --- to the owner ---------------------------------------------------------------------------------------------------


class Train(msgspec.Struct, frozen=True):
    """Do the work that a RoundStart asks for, keep the update, then feed Trained.

    All that has arrived is to be fed before: a newer step makes the work void.

    Attributes:
        plan: id of the plan.
        start: the RoundStart; its deadline counts from now.
    """

    plan: str
    start: RoundStart


class _ForSum(msgspec.Struct, frozen=True):
    """Something to be done for a masked sum; Vanished is fed if the plan's update is not there.

    Attributes:
        plan: id of the plan.
        start: the step that asks for it.
    """

    plan: str
    start: RoundStart | ClusterStart


class Draw(_ForSum, frozen=True):
    """Draw random numbers for the sum, then feed Drawn."""


class MakeVector(_ForSum, frozen=True):
    """Make the plain vector of the plan's update, or of the answer to a question, then feed VectorMade."""


class PutInPlace(msgspec.Struct, frozen=True):
    """Put the adapters of a step where drawing finds them, then feed InPlace."""

    step: Step


class Tell(msgspec.Struct, frozen=True):
    """Tell the owner of an event: a name and plain values."""

    event: str
    values: dict[str, Any] = {}


# --- the end --------------------------------------------------------------------------------------------------------


class NobodyThere(msgspec.Struct, frozen=True):
    """Give up: no coordinator of the federation has shown itself in `seconds`."""

    seconds: float


class Silent(msgspec.Struct, frozen=True):
    """Give up: the coordinator was silent for `seconds`.

    Attributes:
        what: its omission in words, such as "did not answer Join".
        seconds: the length of the wait.
    """

    what: str
    seconds: float


class TurnedAway(msgspec.Struct, frozen=True):
    """Give up: the coordinator refuses this device."""

    refused: Refused


class Stuck(msgspec.Struct, frozen=True):
    """Give up: adapters did not come, again and again.

    Attributes:
        error: the last reason.
    """

    error: ImpastoError


GiveUp: TypeAlias = NobodyThere | Silent | TurnedAway | Stuck
Action: TypeAlias = (
    SayJoin
    | SayHello
    | SayOffer
    | SayLeave
    | SaySum
    | HandIn
    | HandInVector
    | Withdraw
    | Bring
    | Prepare
    | Begin
    | Note
    | Restate
    | KeepSum
    | Train
    | Draw
    | MakeVector
    | PutInPlace
    | Tell
    | GiveUp
)  # fmt: skip
