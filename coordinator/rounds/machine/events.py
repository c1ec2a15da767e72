"""Events: the input of the round machine."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from coordinator.rounds.state import Lineage
from edge_sdk.secure_aggregation import FromDevice
from edge_sdk.wire import DeviceProfile, Offer, Presence


class Joined(msgspec.Struct, frozen=True):
    """A device has sent Join and was admitted.

    Attributes:
        device: name of the device.
        profile: its profile.
        presence: its last presence; None if it has shown none.
    """

    device: str
    profile: DeviceProfile
    presence: Presence | None = None


class Greeted(msgspec.Struct, frozen=True):
    """A device that takes part has said a good Hello: it is there, and asks for what it may have missed."""

    device: str


class Left(msgspec.Struct, frozen=True):
    """A device has sent Leave, or was shut out.

    Attributes:
        device: name of the device.
        reason: the reason in words.
        shut_out: true if the coordinator decided it; otherwise somebody may have sent Leave in the device's name.
    """

    device: str
    reason: str = ""
    shut_out: bool = False


class Forgotten(msgspec.Struct, frozen=True):
    """A device makes room for another one, see `decisions.eviction`; the state forgets that it ever joined."""

    device: str


class Erase(msgspec.Struct, frozen=True):
    """A device's owner has asked that nothing of it is kept, signed by the key of its last Join.

    Attributes:
        device: name of the device.
        key: its public key.
    """

    device: str
    key: bytes


class Heard(msgspec.Struct, frozen=True):
    """A device has sent a message, so it is present.

    Attributes:
        device: name of the device.
        offers: true if the message shows that it takes part, whatever was said before.
    """

    device: str
    offers: bool = False


class Served(msgspec.Struct, frozen=True):
    """A device has stored all adapters that it is to keep."""

    device: str


class Seen(msgspec.Struct, frozen=True):
    """Birth or death of a device's session.

    Attributes:
        device: name of the device.
        online: true for a birth.
        epoch: epoch of the session.
    """

    device: str
    online: bool
    epoch: int


class Offered(msgspec.Struct, frozen=True):
    """A device has offered an update."""

    device: str
    offer: Offer


class Said(msgspec.Struct, frozen=True):
    """A device has sent a message of a masked sum."""

    device: str
    message: FromDevice


class Stored(msgspec.Struct, frozen=True):
    """An offered update was pulled, checked and stored.

    Attributes:
        device: name of the device.
        offer: its offer.
        norm: Frobenius norm of the change by training.
    """

    device: str
    offer: Offer
    norm: float


class Spoiled(msgspec.Struct, frozen=True):
    """An offered update cannot be used.

    Attributes:
        device: name of the device.
        offer: its offer.
        code, reason: the name of the reason, and the reason in words.
        final: true if offering it again would not help.
    """

    device: str
    offer: Offer
    code: str
    reason: str
    final: bool


class Clustered(msgspec.Struct, frozen=True):
    """Clusters were found.

    Attributes:
        assignment: cluster of each device.
        parents: for each new cluster, the old one that most of its devices come from.
        margin: margin of these clusters, see `clustering.margin`; None if there is none.
        placed: devices that were assigned by prompt code alone.
        begin: initial adapters of new clusters; a new cluster without an entry inherits from its parent.
        figures: values to report.
    """

    assignment: dict[str, int]
    parents: dict[int, int] = {}
    margin: float | None = None
    placed: frozenset[str] = frozenset()
    begin: dict[int, Lineage] = {}
    figures: dict[str, Any] = {}


class Inquired(msgspec.Struct, frozen=True):
    """A clustering by sums has a question, the first one or the next.

    Attributes:
        state: its state, encoded.
        question: the question, encoded.
    """

    state: bytes
    question: bytes


class Grouped(msgspec.Struct, frozen=True):
    """Clusters were found by sums; devices choose among them alone.

    Attributes:
        centroids: their centroids, encoded as in a question.
        figures: values to report.
    """

    centroids: bytes
    figures: dict[str, Any] = {}


class Numbered(msgspec.Struct, frozen=True):
    """The devices of each cluster were counted, in the sum that a round begins with.

    Attributes:
        round: number of the round.
        counts: number of devices in each cluster.
        slots: slot of each cluster in the sum of updates.
    """

    round: int
    counts: tuple[int, ...]
    slots: bytes


class Placed(msgspec.Struct, frozen=True):
    """A cluster was found for a device that came too late to train."""

    device: str
    cluster: int


class Aggregated(msgspec.Struct, frozen=True):
    """A round was aggregated.

    Attributes:
        round: number of the round.
        root: the new root, in a root round.
        clusters: the clusters that changed, in a cluster round.
        figures: values to report; of a round under masks also its mean losses, `first_loss` and `last_loss`.
        failed: masked sums that could not be unmasked, by their numbers, each with the reason.
    """

    round: int
    root: Lineage | None = None
    clusters: dict[int, Lineage] = {}
    failed: dict[int, str] = {}
    figures: dict[str, Any] = {}


class Failed(msgspec.Struct, frozen=True):
    """The answer to Cluster or Aggregate cannot be computed, and retrying would not help.

    Attributes:
        round: number of the round.
        code, reason: the name of the reason, and the reason in words.
    """

    round: int
    code: str
    reason: str


class Lost(msgspec.Struct, frozen=True):
    """Blobs, by hash, that are missing or damaged in the store; retrying would not help."""

    blobs: frozenset[str]


class Reconnected(msgspec.Struct, frozen=True):
    """The broker is back; it may have lost what it retained of presence, and missed deaths.

    Attributes:
        shown: devices that have shown presence since then.
    """

    shown: frozenset[str]


class Tick(msgspec.Struct, frozen=True):
    """Time has passed, and nothing else happened."""


class Restarted(msgspec.Struct, frozen=True):
    """The coordinator was started again with its saved state; clocks start anew."""


Event: TypeAlias = (
    Joined
    | Greeted
    | Left
    | Forgotten
    | Erase
    | Heard
    | Seen
    | Offered
    | Said
    | Stored
    | Spoiled
    | Clustered
    | Inquired
    | Grouped
    | Numbered
    | Placed
    | Aggregated
    | Failed
    | Lost
    | Served
    | Reconnected
    | Tick
    | Restarted
)  # fmt: skip
