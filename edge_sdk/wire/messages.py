"""The messages of protocol version 1: msgpack maps, tagged by "type", validated on decoding.

Control messages travel on `Topics.control`; `CoordinatorState` and `Presence` are retained on their own topics.
Binary numbers are little-endian float32.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from edge_sdk.errors import MessageInvalid

VERSION = 1

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Meta(max_length=1000)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Positive = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Rank = Annotated[int, Meta(ge=1, le=1024)]
Size = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Seconds = Annotated[float, Meta(ge=0, le=1e7)]
Role = Literal["root", "cluster", "update"]
Stage = Literal["root", "cluster"]


class _Message(msgspec.Struct, frozen=True, tag_field="type", tag=str.lower, kw_only=True, forbid_unknown_fields=True):
    version: Literal[1] = 1


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a transfer will bring: the receiver pulls its chunks and checks them against it."""

    role: Role
    name: Annotated[str, Meta(max_length=100)]
    sha256: Sha256
    size: Size
    chunk_size: Annotated[int, Meta(ge=1024, le=128 * 1024)]


class DeviceProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the coordinator knows of a device.

    prompt_code: the device's mean prompt code, float32 bytes; pictures: how many it learns from (the weight of its
    updates); max_rank: the largest LoRA rank that it can train.
    """

    base_id: Annotated[str, Meta(max_length=128)]
    prompt_code: Annotated[bytes, Meta(min_length=4, max_length=16384)]
    pictures: Positive
    max_rank: Rank
    capabilities: dict[str, Annotated[str, Meta(max_length=200)]] = {}


# --- both directions: transfers -------------------------------------------------------------------------------------


class Pull(_Message):
    """Receiver to sender: send these chunks now. `missing` has one bit a chunk, bit i of byte i // 8."""

    sha256: Sha256
    missing: Annotated[bytes, Meta(max_length=2**18)]
    credit: Annotated[int, Meta(ge=1, le=64)]


class Committed(_Message):
    """Receiver to sender: the whole transfer lies on disk, checked and synced."""

    sha256: Sha256


class Refused(_Message):
    """What was sent is not accepted: `code` is the name of the error, `about` the hash or type it concerns."""

    code: Annotated[str, Meta(max_length=64)]
    reason: Text
    about: Annotated[str, Meta(max_length=100)] = ""


# --- device to coordinator ------------------------------------------------------------------------------------------


class Join(_Message):
    """A device asks to take part, or says so again after a restart."""

    profile: DeviceProfile


class Offer(_Message):
    """The update of a round is ready to be pulled. The losses are the mean training losses, first and last steps."""

    round: Positive
    manifest: Manifest
    pictures: Positive
    first_loss: float
    last_loss: float
    train_seconds: Seconds


class Leave(_Message):
    """A device says goodbye; it takes no part in further rounds."""

    reason: Text = ""


# --- coordinator to device ------------------------------------------------------------------------------------------


class Welcome(_Message):
    """The device is registered; rounds start when there are enough devices."""

    round: Count
    rounds: Positive


class RoundStart(_Message):
    """A device is in the cohort of this round.

    stage: which adapter the round trains; frozen: adapters to keep under it (the root, in a cluster round);
    start: the adapter to go on from, absent when the device starts from the common initialisation `seed`.
    """

    round: Positive
    rounds: Positive
    stage: Stage
    cluster: Count | None
    frozen: list[Manifest]
    start: Manifest | None
    rank: Rank
    seed: Count
    steps: Positive
    batch_size: Positive
    learning_rate: Annotated[float, Meta(gt=0, le=1)]
    deadline: Seconds


class RoundDone(_Message):
    """The round is closed. `accepted` says whether this device's update was counted."""

    round: Positive
    accepted: bool
    updates: Count


class Finished(_Message):
    """The last round is closed: the adapters to keep, the device's own cluster first among the clusters."""

    rounds: Positive
    cluster: Count
    adapters: list[Manifest]


# --- retained -------------------------------------------------------------------------------------------------------


class CoordinatorState(_Message):
    """Whether somebody coordinates this federation, and of which base model. `epoch` grows with every start."""

    online: bool
    epoch: Count
    federation: Name
    base_id: Annotated[str, Meta(max_length=128)]


class Presence(_Message):
    """Birth and death of a device's session. A death of an older epoch than the last birth is void."""

    online: bool
    epoch: Count


Control: TypeAlias = (
    Pull | Committed | Refused | Join | Offer | Leave | Welcome | RoundStart | RoundDone | Finished
)
Message: TypeAlias = Control | CoordinatorState | Presence

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)  # type: ignore[arg-type]


def encode(message: Message) -> bytes:
    return _ENCODER.encode(message)


def decode(data: bytes) -> Message:
    """Decode and validate one message.

    Raises:
        MessageInvalid: not msgpack, an unknown type or field, a value out of its range, or another protocol version.
    """
    try:
        return _DECODER.decode(data)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
        raise MessageInvalid(f"Message refused: {error}") from error
