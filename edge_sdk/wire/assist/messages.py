"""Messages of assisted drawing: msgpack maps, tagged by "type", validated on decoding. docs/assist.md has the tables.

    device                            helper
                 <──────────────────   HelperState    retained: its key, its bundle, what it takes
      Ask        ──────────────────>                  a signed `Drawing` with its deadline
                 <──────────────────   Queued         its place, and the seconds until it is done
                 <──────────────────   Busy, Refused  not now; not so
      Cancel     ──────────────────>                  signed: not wanted any more
                 <──────────────────   Drawn          signed: the manifest of the drawing's state
      Pull, Committed and chunks, as for every transfer

A request is named by the hash of its `Drawing` as it was sent: repeated, it is answered from what is there.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from edge_sdk.errors import MessageInvalid
from edge_sdk.wire.messages import (
    MAX_MESSAGE,
    BaseId,
    Committed,
    Count,
    Epoch,
    Key,
    Manifest,
    Name,
    Positive,
    Pull,
    Refused,
    Seconds,
    Sha256,
    Signature,
    Text,
)

MAX_DRAWING = 4096  # bytes of an encoded Drawing
MAX_TOKENS = 152  # bytes of a prompt's token ids: 75 of Stable Diffusion's 77, without start and end
MAX_SEED = 2**53 - 1  # a JavaScript number holds all of them

Form = Literal["open", "blank"]
"""The form of the prompt: its token ids, which are the caption in clear, or nothing."""
Label = Annotated[str, Meta(min_length=1, max_length=128)]
Weight = Annotated[float, Meta(ge=-100, le=100)]
Side = Annotated[int, Meta(ge=1, le=4096)]
Steps = Annotated[int, Meta(ge=1, le=1000)]
Tokens = Annotated[bytes, Meta(max_length=MAX_TOKENS)]
Unix = Annotated[float, Meta(ge=0, le=2.0**53)]


class _Message(msgspec.Struct, frozen=True, tag_field="type", tag=str.lower, kw_only=True, forbid_unknown_fields=True):
    version: Literal[1] = 1


class AdapterUse(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An adapter of a drawing. sha256: the hash of its file; weight: its weight."""

    sha256: Sha256
    weight: Weight


class Drawing(_Message, frozen=True, kw_only=True):
    """The first steps of a drawing, asked for in an `Ask`.

    base_id, variant, schedule, scheduler, steps: its course; until: the number of steps to draw; guidance, width,
    height, seed, hybrid: as in `Generator.generate`; adapters: those that the federation has published, a leaf never;
    form: what stands for the prompt; prompt: with "open" its token ids for each text encoder, little-endian uint16
    without start, end and padding; negative: the same of the negative prompt, nil if that is empty; deadline: Unix time
    after which the answer is of no use.
    """

    base_id: BaseId
    variant: Label
    schedule: Label
    scheduler: Label
    steps: Steps
    until: Steps
    guidance: Annotated[float, Meta(ge=-1000, le=1000)]
    width: Side
    height: Side
    seed: Annotated[int, Meta(ge=0, le=MAX_SEED)]
    hybrid: Label
    adapters: Annotated[list[AdapterUse], Meta(max_length=8)]
    form: Form
    prompt: Annotated[list[Tokens], Meta(max_length=2)]
    negative: Annotated[list[Tokens], Meta(min_length=1, max_length=2)] | None
    deadline: Unix

    def __post_init__(self) -> None:
        if self.until >= self.steps:
            raise ValueError(f"until is {self.until}: of {self.steps} steps the device has to draw the last itself")
        if self.form == "blank" and (self.prompt or self.negative is not None):
            raise ValueError("a blank request has no prompt")
        if self.form == "open" and not self.prompt:
            raise ValueError("an open request has a prompt for each text encoder")
        for tokens in (*self.prompt, *(self.negative or [])):
            if len(tokens) % 2:
                raise ValueError("token ids have two bytes each")


# --- device to helper -----------------------------------------------------------------------------------------------


class Ask(_Message, frozen=True, kw_only=True):
    """A device asks for the first steps of a drawing.

    drawing: the encoded `Drawing`, signed as it is; signature: by the device's key, see `signing`.
    """

    drawing: Annotated[bytes, Meta(max_length=MAX_DRAWING)]
    signature: Signature


class Cancel(_Message, frozen=True, kw_only=True):
    """A device wants a drawing no more. request: its name; signature: by the device's key, see `signing`."""

    request: Sha256
    signature: Signature


# --- helper to device -----------------------------------------------------------------------------------------------


class Queued(_Message, frozen=True, kw_only=True):
    """A request was taken. position: number of those before it; seconds: until it is drawn, as far as can be told."""

    request: Sha256
    position: Count
    seconds: Seconds


class Busy(_Message, frozen=True, kw_only=True):
    """A request was not taken, as there is no room. seconds: after which asking again, with a new request, may help."""

    request: Sha256
    seconds: Seconds
    reason: Text


class Drawn(_Message, frozen=True, kw_only=True):
    """A drawing's state can be pulled.

    request: the name of its request; manifest: the state's, its role is "state"; seconds: that a step took, its share
    if others were drawn with it; signature: by the helper's key, see `signing`.
    """

    request: Sha256
    manifest: Manifest
    seconds: Seconds
    signature: Signature


class HelperState(_Message, frozen=True, kw_only=True):
    """A helper's presence and what it takes, retained.

    online: True while it answers; epoch: grows with every start; federation, helper: the names; base_id, variant,
    schedule: of its bundle; forms: the forms that it takes; largest: pixels of the largest picture; seconds: that a
    step of a picture of the trained size takes, with guidance; key: the Ed25519 public key that it signs with; voucher:
    the coordinator's signature of that key; signature: by `key`, of all the rest, see `signing`.
    """

    online: bool
    epoch: Epoch
    federation: Name
    helper: Name
    base_id: BaseId
    variant: Label
    schedule: Label
    forms: Annotated[list[Form], Meta(max_length=2)]
    largest: Positive
    seconds: Seconds
    key: Key
    voucher: Signature
    signature: Signature


FromDevice: TypeAlias = Ask | Cancel | Pull | Committed | Refused
FromHelper: TypeAlias = Queued | Busy | Drawn | Refused | Pull | Committed
AssistMessage: TypeAlias = Ask | Cancel | Queued | Busy | Drawn | HelperState | Pull | Committed | Refused

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[AssistMessage] = msgspec.msgpack.Decoder(AssistMessage)
_DRAWINGS = msgspec.msgpack.Decoder(Drawing)


def encode(message: AssistMessage | Drawing) -> bytes:
    """The msgpack form of a message."""
    return _ENCODER.encode(message)


def decode(data: bytes) -> AssistMessage:
    """Decode and validate one message.

    Raises:
        MessageInvalid: it is too large or not msgpack, has an unknown type or field or a value out of its range, or is
            of another protocol version.
    """
    if len(data) > MAX_MESSAGE:
        raise MessageInvalid(f"Message refused: {len(data)} bytes are more than {MAX_MESSAGE}.")
    try:
        return _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MessageInvalid(f"Message refused: {str(error)[:500]}") from error


def decode_drawing(data: bytes) -> Drawing:
    """Decode the content of an `Ask`; `signing.asks` checks its signature.

    Raises:
        MessageInvalid: as `decode`, or it asks for what makes no sense.
    """
    try:
        return _DRAWINGS.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MessageInvalid(f"Request refused: {str(error)[:500]}") from error


def request_id(drawing: bytes) -> str:
    """The name of a request: the SHA-256 of its encoded `Drawing`, in hex."""
    return hashlib.sha256(drawing).hexdigest()


def pack_tokens(ids: tuple[int, ...]) -> bytes | None:
    """Token ids as little-endian uint16; None if there are too many, or one is too large."""
    if 2 * len(ids) > MAX_TOKENS or any(token >= 2**16 for token in ids):
        return None
    return struct.pack(f"<{len(ids)}H", *ids)


def unpack_tokens(data: bytes) -> tuple[int, ...]:
    """The token ids of `pack_tokens`."""
    return struct.unpack(f"<{len(data) // 2}H", data)
