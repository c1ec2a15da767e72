"""The messages of protocol version 1: msgpack maps, tagged by "type", validated on decoding.

Control messages travel on `Topics.control`; `CoordinatorState` and `Presence` are retained on their own topics.
Binary numbers are little-endian float32. docs/protocol.md describes every field for other languages.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta
from msgspec.structs import replace

from edge_sdk.adapter import LayerSet, Share
from edge_sdk.errors import MessageInvalid
from edge_sdk.privacy import Guarantee

VERSION = 1
MAX_MESSAGE = 128 * 1024  # bytes of an encoded message: the limit of hosted brokers
MAX_CHUNK = 128 * 1024  # bytes of an encoded chunk
CHUNK_HEADER = 36  # sha256 of the transfer and index of the chunk
MIN_CHUNK = 1024  # bytes of content in a chunk
MAX_CHUNKS = 2**19  # of one transfer, so that its bitmap fits into a message
MAX_CREDIT = 64
MAX_ADAPTERS = 256  # that a device takes home
MAX_SUCCESSIONS = 16
CENTROID_BYTES = 32  # of a published centroid
MAX_CLUSTERS = 64  # among which devices choose alone
LEAST_CLUSTER = 3  # devices: of two in a slot, each would know the other's part

# \Z rather than $, which also matches before a final newline.
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Text = Annotated[str, Meta(max_length=1000)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
# Seconds since 1970 always fit, and a JavaScript number holds all of them.
MAX_EPOCH = 2**53 - 1
Epoch = Annotated[int, Meta(ge=0, le=MAX_EPOCH)]
Positive = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Rank = Annotated[int, Meta(ge=1, le=1024)]
Size = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Seconds = Annotated[float, Meta(ge=0, le=1e7)]
Loss = Annotated[float, Meta(ge=-1e9, le=1e9)]
Key = Annotated[bytes, Meta(min_length=32, max_length=32)]
Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]
BaseId = Annotated[str, Meta(min_length=1, max_length=128)]
Level = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9+-]{0,31}\Z")]
Fraction = Annotated[float, Meta(ge=0, lt=1)]
Bits = Annotated[int, Meta(ge=1, le=128)]
SecurityBits = Annotated[int, Meta(ge=40, le=128)]  # no coordinator may ask for less
Role = Literal["root", "cluster", "update", "state"]
Stage = Literal["root", "cluster"]
Centroids = Annotated[bytes, Meta(max_length=MAX_CLUSTERS * CENTROID_BYTES)]


class _Message(msgspec.Struct, frozen=True, tag_field="type", tag=str.lower, kw_only=True, forbid_unknown_fields=True):
    version: Literal[1] = 1


def clusters_in(centroids: bytes) -> int:
    """Number of clusters that have these centroids.

    Raises:
        ValueError: their length is not that of whole centroids.
    """
    if len(centroids) % CENTROID_BYTES:
        raise ValueError(f"{len(centroids)} bytes of centroids, which have {CENTROID_BYTES} each")
    return len(centroids) // CENTROID_BYTES


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Description of a transfer's content: the receiver pulls its chunks and checks them against it.

    role, name: kind and name of the content; sha256: its hash; size: its bytes; chunk_size: bytes of each chunk.
    """

    role: Role
    name: Annotated[str, Meta(max_length=100)]
    sha256: Sha256
    size: Size
    chunk_size: Annotated[int, Meta(ge=MIN_CHUNK, le=MAX_CHUNK - CHUNK_HEADER)]

    @property
    def chunks(self) -> int:
        """Number of its chunks; the last one may be shorter."""
        return -(-self.size // self.chunk_size)

    def __post_init__(self) -> None:
        if self.chunks > MAX_CHUNKS:
            raise ValueError(f"{self.chunks} chunks are more than {MAX_CHUNKS}: choose larger chunks")


class DeviceProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Profile of a device, as the coordinator knows it.

    prompt_code: the device's prompt code, empty if its level keeps it on the device; level: the privacy level of its
    codes, by which they are read; basis: id of the public basis that the prompt code was made with, empty for levels
    without one; pictures: number of pictures that it learns from, for people; max_rank: the largest LoRA rank that it
    can train; capabilities: kept, never acted on; key: the Ed25519 public key that signs its hellos, empty for a device
    that says none; picture_code: its picture code, empty for a device that shares none; picture_encoder: id of the
    image encoder that this was made with.
    """

    base_id: BaseId
    prompt_code: Annotated[bytes, Meta(max_length=16384)]
    pictures: Positive
    max_rank: Rank
    capabilities: Annotated[
        dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=200)]], Meta(max_length=32)
    ] = {}
    key: Annotated[bytes, Meta(max_length=32)] = b""
    level: Level = "plain"  # of devices of earlier versions, which do not state it
    basis: Annotated[bytes, Meta(max_length=32)] = b""
    picture_code: Annotated[bytes, Meta(max_length=16384)] = b""
    picture_encoder: Annotated[bytes, Meta(max_length=32)] = b""

    def __post_init__(self) -> None:
        if len(self.key) not in (0, 32):
            raise ValueError("key must be a public key of 32 bytes, or empty")
        if len(self.basis) not in (0, 32):
            raise ValueError("basis must be an id of 32 bytes, or empty")
        if len(self.picture_encoder) not in (0, 32):
            raise ValueError("picture_encoder must be an id of 32 bytes, or empty")
        if self.level != "plain":
            return
        if not self.prompt_code:
            raise ValueError("prompt_code is empty, and level plain has one")
        for name, code in (("prompt_code", self.prompt_code), ("picture_code", self.picture_code)):
            if len(code) % 4 or not np.isfinite(np.frombuffer(code, "<f4")).all():
                raise ValueError(f"{name} must be finite float32 numbers")


class TrainingStats(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of a finished training. Offers, reports and events have them by these names.

    Attributes:
        pictures: number of pictures that it learnt from: its weight in the mean.
        first_loss: mean training loss of the first steps.
        last_loss: mean training loss of the last steps.
        train_seconds: duration of the training.
    """

    pictures: Positive
    first_loss: Loss
    last_loss: Loss
    train_seconds: Seconds

    def figures(self) -> dict[str, Any]:
        """The figures by their names, as plain numbers."""
        return {
            "pictures": int(self.pictures),
            "first_loss": float(self.first_loss),
            "last_loss": float(self.last_loss),
            "train_seconds": max(0.0, float(self.train_seconds)),
        }


# --- both directions: transfers -------------------------------------------------------------------------------------


class Pull(_Message, frozen=True, kw_only=True):
    """Receiver to sender: send these chunks now, at most `credit` of them, lowest index first.

    `missing` has one bit per chunk: bit i % 8 (1 << i % 8) of byte i // 8. Trailing zero bytes may be left out.
    """

    sha256: Sha256
    missing: Annotated[bytes, Meta(max_length=MAX_CHUNKS // 8)]
    credit: Annotated[int, Meta(ge=1, le=MAX_CREDIT)]


class Committed(_Message, frozen=True, kw_only=True):
    """Receiver to sender: the whole transfer lies on disk, checked and synced."""

    sha256: Sha256


class Refused(_Message, frozen=True, kw_only=True):
    """A message or content is not accepted: `code` is the name of the error, `about` the hash or type it concerns."""

    code: Annotated[str, Meta(max_length=64)]
    reason: Text
    about: Annotated[str, Meta(max_length=100)] = ""


# --- device to coordinator ------------------------------------------------------------------------------------------


class Join(_Message, frozen=True, kw_only=True):
    """A device asks to take part, or repeats this after a restart.

    invitation: the secret of its invitation, if it has one, see `edge_sdk.wire.invitation`.
    """

    profile: DeviceProfile
    invitation: Annotated[bytes, Meta(max_length=64)] = b""

    def __repr__(self) -> str:
        """The message without the invitation's secret."""
        return f"Join({self.profile!r}, {'invited' if self.invitation else 'uninvited'})"


class Hello(_Message, frozen=True, kw_only=True):
    """A device that has joined is still there, with the profile of its last Join, and asks for what it may have missed.

    epoch: of its session, as in its presence; number: grows with every hello of the session; signature: by the key in
    its profile, see `signing`.
    """

    epoch: Epoch
    number: Positive
    signature: Signature


class Offer(_Message, frozen=True, kw_only=True):
    """The update of a round is ready to be pulled. The losses are the mean training losses, first and last steps.

    round: 0 for an answer to a question of a clustering; attempt: that of the step that it answers; pictures: its
    weight in the mean, within the federation's bounds.
    """

    round: Count
    attempt: Positive
    manifest: Manifest
    pictures: Positive
    first_loss: Loss
    last_loss: Loss
    train_seconds: Seconds

    @classmethod
    def of(cls, start: RoundStart, manifest: Manifest, stats: TrainingStats) -> Offer:
        """The offer of an update that answers a RoundStart."""
        return cls(round=start.round, attempt=start.attempt, manifest=manifest, **stats.figures())

    @property
    def stats(self) -> TrainingStats:
        """The figures of the update's training."""
        return TrainingStats(**{name: getattr(self, name) for name in TrainingStats.__struct_fields__})


class Leave(_Message, frozen=True, kw_only=True):
    """A device leaves; it takes no part in further rounds. Join and Offer bring it back."""

    reason: Text = ""


class Forget(_Message, frozen=True, kw_only=True):
    """A device's owner asks that nothing of the device is kept; the device takes no part any more.

    key: the key in the profile of its last Join, which signs nothing else from now on; signature: by that key, see
    `signing`.
    """

    key: Key
    signature: Signature


# --- coordinator to device ------------------------------------------------------------------------------------------


class Welcome(_Message, frozen=True, kw_only=True):
    """The device is registered; rounds start when there are enough devices."""

    round: Count
    rounds: Positive


class Masking(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Terms of a round whose updates are summed under masks, see docs/masked-sums.md.

    epoch: the coordinator's start in which the round was opened; largest_weight: pictures that make the largest weight,
    more of them weigh the same; largest_change: largest change of a number by training that is not clipped; colluding,
    dropping: shares of the devices that may collude with the coordinator, and that may be lost on the way;
    security_bits, failure_bits: a leak, or a failure, is as unlikely as 2^-bits.
    """

    epoch: Epoch
    largest_weight: Positive
    largest_change: Annotated[float, Meta(gt=0, le=1e6)]
    colluding: Fraction
    dropping: Fraction
    security_bits: SecurityBits
    failure_bits: Bits


class RoundStart(_Message, frozen=True, kw_only=True):
    """A device is in the cohort of this round.

    attempt: grows with every opening of a round, so that an update for an abandoned round does not count in the round
    that was opened in its place under the same number;
    stage: which adapter the round trains; frozen: adapters to keep under it (the root in a cluster round, and adapters
    that a method has folded into the base); start: the adapter to go on from, absent when the device starts from the
    common initialisation `seed`; keep_rest: the part of `start` beyond the device's rank lies frozen under the trained
    adapter, rather than being cut off; share: which factors to train and to send; layers: which layers to train; late:
    number of rounds later in which an update may still come; masking: the terms under which the updates are summed,
    absent when each update is sent by itself.

    Where devices choose their clusters alone, a cluster round is the same for all of them, and names no cluster:
    centroids: those of all clusters, in their order, of which a device takes the nearest one; starts: the clusters'
    adapters to go on from, null for one that starts from the initialisation, empty when all do; slots: the slot of each
    cluster in the sum, a byte each, empty as long as the devices of each cluster are being counted; losses: the most
    devices that the sum may lose, absent when `masking` alone decides.
    """

    round: Positive
    attempt: Positive
    rounds: Positive
    stage: Stage
    cluster: Count | None
    frozen: Annotated[list[Manifest], Meta(max_length=16)]
    start: Manifest | None
    keep_rest: bool = False
    share: Share = Share.BOTH
    layers: LayerSet = "attention"
    rank: Rank
    seed: Count
    steps: Positive
    batch_size: Positive
    learning_rate: Annotated[float, Meta(gt=0, le=1)]
    deadline: Seconds
    late: Count = 0
    masking: Masking | None = None
    centroids: Centroids = b""
    starts: Annotated[list[Manifest | None], Meta(max_length=MAX_CLUSTERS)] = []
    slots: Annotated[bytes, Meta(max_length=MAX_CLUSTERS)] = b""
    losses: Count | None = None

    def __post_init__(self) -> None:
        clusters = clusters_in(self.centroids)
        if clusters and (self.stage != "cluster" or self.cluster is not None or self.start or self.masking is None):
            raise ValueError("centroids are for masked cluster rounds that name no cluster")
        if len(self.starts) not in (0, clusters) or len(self.slots) not in (0, clusters):
            raise ValueError(f"{len(self.starts)} starts and {len(self.slots)} slots for {clusters} centroids")
        if self.slots and set(self.slots) != set(range(max(self.slots) + 1)):
            raise ValueError("slots are numbered from 0, and none is left out")
        if self.losses is not None and not self.slots:
            raise ValueError("losses are those of a sum with slots")

    @property
    def manifests(self) -> list[Manifest]:
        """Manifests of all adapters that it names."""
        return [*self.frozen, *(start for start in (self.start, *self.starts) if start)]

    def of_cluster(self, cluster: int | None) -> RoundStart:
        """The same for a device that has chosen this cluster alone; itself if it names one."""
        if not self.centroids or cluster is None:
            return self
        start = self.starts[cluster] if self.starts else None
        return replace(self, cluster=cluster, start=start, starts=[], centroids=b"", slots=b"", losses=None)


class ClusterStart(_Message, frozen=True, kw_only=True):
    """A device is asked a question of a clustering by sums, to be answered in a masked sum that loses no device.

    attempt: as in a RoundStart; question: encoded, see docs/protocol.md; smallest: least number of devices in a
    cluster, by which the company of two sums has to differ if it differs at all; masking: the terms of the sum; noise:
    what the answers keep by their noise, at level "local+dp", whose sums may lose devices; nil at level "local".
    """

    attempt: Positive
    question: Annotated[bytes, Meta(min_length=1, max_length=96 * 1024)]
    smallest: Annotated[int, Meta(ge=LEAST_CLUSTER, le=2**31 - 1)]
    masking: Masking
    deadline: Seconds
    noise: Guarantee | None = None

    @property
    def manifests(self) -> list[Manifest]:
        """Manifests of all adapters that it names: none."""
        return []


class RoundDone(_Message, frozen=True, kw_only=True):
    """The round is closed. `accepted` says whether this device's update was counted.

    round: 0 for a question of a clustering, whose sum is there.
    """

    round: Count
    accepted: bool
    updates: Count


class Finished(_Message, frozen=True, kw_only=True):
    """The last round is closed: the adapters to keep, the device's own cluster first among the clusters.

    Where devices choose their clusters alone, cluster is absent, and centroids are those of all, in their order.
    """

    rounds: Positive
    cluster: Count | None
    adapters: Annotated[list[Manifest], Meta(max_length=MAX_ADAPTERS)]
    centroids: Centroids = b""

    def __post_init__(self) -> None:
        if clusters_in(self.centroids) and self.cluster is not None:
            raise ValueError("there are centroids to choose from, and the cluster is named")
        if self.cluster is None and not self.centroids:
            raise ValueError("there is no cluster, and there are no centroids to choose from")

    @property
    def manifests(self) -> list[Manifest]:
        """Manifests of all adapters that it names."""
        return self.adapters


class Forgotten(_Message, frozen=True, kw_only=True):
    """The coordinator keeps nothing of the device with this key any more. signature: by the coordinator's key."""

    key: Key
    signature: Signature


class SignedStep(_Message, frozen=True, kw_only=True):
    """A step (RoundStart, ClusterStart, Finished) with the coordinator's signature: devices ignore unsigned ones.

    epoch: the coordinator's; step: the encoded message, which is signed as it is, see `signing`.
    """

    epoch: Epoch
    step: Annotated[bytes, Meta(max_length=MAX_MESSAGE)]
    signature: Signature


# --- both directions: masked sums -----------------------------------------------------------------------------------


class Sum(_Message, frozen=True, kw_only=True):
    """A message of a masked sum, encoded. Devices send it; the coordinator's come signed, in a `SignedSum`."""

    content: Annotated[bytes, Meta(max_length=MAX_MESSAGE)]


class SignedSum(_Message, frozen=True, kw_only=True):
    """The coordinator's message of a masked sum, with its signature: devices ignore unsigned ones.

    epoch: the coordinator's; content: the encoded message, which is signed as it is, see `signing`.
    """

    epoch: Epoch
    content: Annotated[bytes, Meta(max_length=MAX_MESSAGE)]
    signature: Signature


# --- retained -------------------------------------------------------------------------------------------------------


class Succession(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key's signed statement that another key succeeds it."""

    old: Key
    new: Key
    signature: Signature


class CoordinatorState(_Message, frozen=True, kw_only=True):
    """The coordinator's presence and base model, retained. `epoch` grows with every start.

    online: True while it coordinates the federation; level: the privacy level of the codes that it asks for; masked:
    True if updates are summed under masks, absent otherwise; noise: what answers to questions keep by their noise, at
    level "local+dp", absent at others; key: the Ed25519 public key that it signs with;
    successions: statements of earlier keys about their successors, the oldest first; signature: by `key`, of all the
    rest, see `signing`.
    """

    online: bool
    epoch: Epoch
    federation: Name
    base_id: BaseId
    level: Level
    masked: Literal[True] | msgspec.UnsetType = msgspec.UNSET
    noise: Guarantee | msgspec.UnsetType = msgspec.UNSET
    key: Key
    successions: Annotated[list[Succession], Meta(max_length=MAX_SUCCESSIONS)] = []
    signature: Signature


class Presence(_Message, frozen=True, kw_only=True):
    """Birth or death of a device's session.

    A birth counts whatever its epoch; a death with an older epoch than the last birth is void. They only decide whether
    rounds wait for the device.
    """

    online: bool
    epoch: Epoch


Step: TypeAlias = RoundStart | ClusterStart | Finished
"""Steps that the coordinator may ask of a device: train, answer a question, or finish."""
Control: TypeAlias = (
    Pull
    | Committed
    | Refused
    | Join
    | Hello
    | Offer
    | Leave
    | Forget
    | Welcome
    | Forgotten
    | Step
    | RoundDone
    | SignedStep
    | Sum
    | SignedSum
)  # fmt: skip
Message: TypeAlias = Control | CoordinatorState | Presence

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """The msgpack form of a message."""
    return _ENCODER.encode(message)


def decode(data: bytes) -> Message:
    """Decode and validate one message.

    Raises:
        MessageInvalid: the message is too large or not msgpack, has an unknown type or field or a value out of its
            range, or is of another protocol version.
    """
    if len(data) > MAX_MESSAGE:
        raise MessageInvalid(f"Message refused: {len(data)} bytes are more than {MAX_MESSAGE}.")
    try:
        return _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MessageInvalid(f"Message refused: {str(error)[:500]}") from error  # cut, as it may quote the message


def decode_step(data: bytes) -> Step:
    """Decode the content of a `SignedStep`; `signing.verified` checks its signature.

    Raises:
        MessageInvalid: as `decode`, or it is no step.
    """
    step = decode(data)
    if not isinstance(step, Step):
        raise MessageInvalid(f"Message refused: a {type(step).__name__} is signed as a step.")
    return step
