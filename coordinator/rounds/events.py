"""What may happen to a federation: the inputs of the round machine."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from coordinator.rounds.state import Lineage
from edge_sdk.wire import DeviceProfile, Offer, Presence


class Joined(msgspec.Struct, frozen=True):
    """`presence`: what the device's topic has said last, None if nothing."""

    device: str
    profile: DeviceProfile
    presence: Presence | None = None


class Left(msgspec.Struct, frozen=True):
    """`shut_out`: the coordinator says so, not somebody in the device's name."""

    device: str
    reason: str = ""
    shut_out: bool = False


class Forgotten(msgspec.Struct, frozen=True):
    """A device makes room for another one, see `places`: it is as if it had never joined."""

    device: str


class Heard(msgspec.Struct, frozen=True):
    """A device has said something: it is there. `offers`: it said that it takes part, whatever was said before."""

    device: str
    offers: bool = False


class Served(msgspec.Struct, frozen=True):
    """A device has all adapters that it takes home."""

    device: str


class Seen(msgspec.Struct, frozen=True):
    """Birth or death of a device's session."""

    device: str
    online: bool
    epoch: int


class Offered(msgspec.Struct, frozen=True):
    device: str
    offer: Offer


class Stored(msgspec.Struct, frozen=True):
    """An offered update was pulled, checked, and lies on disk. `norm`: of what training changed."""

    device: str
    offer: Offer
    norm: float


class Spoiled(msgspec.Struct, frozen=True):
    """An offered update could not be had. `final`: offering it again would not help."""

    device: str
    offer: Offer
    code: str
    reason: str
    final: bool


class Clustered(msgspec.Struct, frozen=True):
    """`parents`: for each cluster that is new, the one that most of its devices come from; `margin`: how well these
    clusters fitted when they were found; `placed`: devices that got theirs by prompt code alone; `begin`: what new
    clusters go on from, those without an entry from what their parent has learnt; `figures`: to report.
    """

    assignment: dict[str, int]
    parents: dict[int, int] = {}
    margin: float | None = None
    placed: frozenset[str] = frozenset()
    begin: dict[int, Lineage] = {}
    figures: dict[str, Any] = {}


class Placed(msgspec.Struct, frozen=True):
    """A cluster was found for a device that came too late to train."""

    device: str
    cluster: int


class Aggregated(msgspec.Struct, frozen=True):
    """What a round has made: of the root, or of the clusters that changed."""

    round: int
    root: Lineage | None = None
    clusters: dict[int, Lineage] = {}
    figures: dict[str, Any] = {}


class Failed(msgspec.Struct, frozen=True):
    """What Cluster or Aggregate asked for round `round` cannot be computed, and could not be by asking again."""

    round: int
    code: str
    reason: str


class Lost(msgspec.Struct, frozen=True):
    """These blobs are gone from the store, or damaged in it: they cannot be had by asking again."""

    blobs: frozenset[str]


class Reconnected(msgspec.Struct, frozen=True):
    """The broker was away, and may have lost what it knew of presence, and deaths with it. `shown`: devices that have
    shown presence since."""

    shown: frozenset[str]


class Tick(msgspec.Struct, frozen=True):
    """Nothing but time has passed."""


class Restarted(msgspec.Struct, frozen=True):
    """The coordinator came back with the state that it had saved; clocks start anew."""


Event: TypeAlias = (
    Joined
    | Left
    | Forgotten
    | Heard
    | Seen
    | Offered
    | Stored
    | Spoiled
    | Clustered
    | Placed
    | Aggregated
    | Failed
    | Lost
    | Served
    | Reconnected
    | Tick
    | Restarted
)  # fmt: skip
