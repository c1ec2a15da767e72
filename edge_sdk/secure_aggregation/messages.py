"""Messages of a masked sum: msgpack maps, tagged by "type", validated on decoding.

    device                                  coordinator
      Advertisement   ──────────────────>                   keys for this attempt, signed
                      <──────────────────   Roster          everybody's, and the parameters
      Reveal          ──────────────────>                   its part of the graph's seed; not in a complete graph
                      <──────────────────   Numbers         everybody's part
      Shares          ──────────────────>                   of its two secrets, encrypted for its neighbours
                      <──────────────────   Delivery        those of its neighbours for it
      Ready           ──────────────────>                   who takes part, signed
      (vector)        ──────────────────>                   masked
                      <──────────────────   UnmaskRequest   who is in the sum, who has dropped out
      Consent         ──────────────────>                   both lists, signed
                      <──────────────────   Consents        those of a quorum
      UnmaskAnswer    ──────────────────>                   a share of one secret of each

Devices are named by their places in the roster, from 0. A set of devices is a bitmap: bit i % 8 (1 << i % 8) of byte
i // 8, as many bytes as the roster needs. The masked vector is no message, but the content of a transfer: `Terms.words`
little-endian uint32. More than 400 devices make several sums in a round, as their roster would be larger than a message
may be.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from edge_sdk.errors import AttemptMismatch, MessageInvalid
from edge_sdk.secure_aggregation.policy import MOST_DEVICES
from edge_sdk.secure_aggregation.terms import Count, Hash, Terms

SHARE_BYTES = 16
SEALED_BYTES = 2 * SHARE_BYTES + 16
"""Bytes of two encrypted shares: the authentication tag has 16."""
SIGNATURE_BYTES = 64

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
Number = Annotated[bytes, Meta(min_length=16, max_length=16)]
Signature = Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]
Bitmap = Annotated[bytes, Meta(min_length=1, max_length=MOST_DEVICES // 8)]


class Advertisement(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """A device's public keys for one attempt. An array of its fields, as a roster holds a thousand of them.

    Attributes:
        device: its name.
        identity: its Ed25519 public key.
        mask_key, share_key: X25519 public keys for its pairwise masks and for the encryption of shares. The private key
            of the first is restored from shares if the device drops out; that of the second never leaves the device.
        commitment: SHA-256 that commits it to the number that it will reveal.
        signature: by the identity key, of the terms and all of this.
    """

    device: Name
    identity: Hash
    mask_key: Hash
    share_key: Hash
    commitment: Hash
    signature: Signature

    @property
    def signed_fields(self) -> tuple[str, bytes, bytes, bytes, bytes]:
        """The fields that the signature covers, beside the terms."""
        return self.device, self.identity, self.mask_key, self.share_key, self.commitment


class _Message(msgspec.Struct, frozen=True, tag_field="type", tag=str.lower, kw_only=True, forbid_unknown_fields=True):
    epoch: Count
    round: Count
    attempt: Count

    def check(self, terms: Terms) -> None:
        """Raise AttemptMismatch unless the message is of this attempt."""
        mine, wanted = (self.epoch, self.round, self.attempt), terms.numbers
        if mine != wanted:
            raise AttemptMismatch(
                f"A {type(self).__name__} of start {mine[0]}, round {mine[1]}, attempt {mine[2]} came in start "
                f"{wanted[0]}, round {wanted[1]}, attempt {wanted[2]}: nothing comes of it. It came late, or somebody "
                "repeats it."
            )


class Advertise(_Message, frozen=True, kw_only=True):
    """Device: take me into the roster."""

    advertisement: Advertisement


class Roster(_Message, frozen=True, kw_only=True):
    """Coordinator: the devices of the sum in the order of their names, and its parameters (see `Parameters`)."""

    neighbours: Annotated[int, Meta(ge=1, lt=MOST_DEVICES)]
    threshold: Annotated[int, Meta(ge=1, le=MOST_DEVICES)]
    devices: Annotated[list[Advertisement], Meta(max_length=MOST_DEVICES)]


class Reveal(_Message, frozen=True, kw_only=True):
    """Device: the number that I have committed to; the graph's seed is made from everybody's."""

    number: Number


class Numbers(_Message, frozen=True, kw_only=True):
    """Coordinator: everybody's number, 16 bytes each, in the roster's order."""

    numbers: Annotated[bytes, Meta(max_length=16 * MOST_DEVICES)]


class Shares(_Message, frozen=True, kw_only=True):
    """Device: shares of my secrets, `SEALED_BYTES` for each neighbour, in the roster's order.

    Attributes:
        self_check: SHA-256 by which the coordinator knows the secret of the self mask when it restores it.
        sealed: the encrypted shares.
    """

    self_check: Hash
    sealed: Annotated[bytes, Meta(max_length=SEALED_BYTES * MOST_DEVICES)]


class Delivery(_Message, frozen=True, kw_only=True):
    """Coordinator: the shares that your neighbours have encrypted for you.

    Attributes:
        sharers: devices that have sent shares; only they take part from now on.
        sealed: the encrypted shares of those among your neighbours, in the roster's order.
    """

    sharers: Bitmap
    sealed: Annotated[bytes, Meta(max_length=SEALED_BYTES * MOST_DEVICES)]


class Ready(_Message, frozen=True, kw_only=True):
    """Device: I have my neighbours' shares; the signature is by the identity key, of the roster and the sharers."""

    signature: Signature


class UnmaskRequest(_Message, frozen=True, kw_only=True):
    """Coordinator: agree to this sum. The two sets are disjoint, and together they are the sharers.

    Attributes:
        survivors: devices whose masked vectors are in the sum.
        dropped: devices whose are not.
        ready: signatures of Ready of the survivors among your neighbours, in the roster's order.
    """

    survivors: Bitmap
    dropped: Bitmap
    ready: Annotated[bytes, Meta(max_length=SIGNATURE_BYTES * MOST_DEVICES)]


class Consent(_Message, frozen=True, kw_only=True):
    """Device: I agree to no other sum; the signature is by the identity key, of the roster and both sets."""

    signature: Signature


class Consents(_Message, frozen=True, kw_only=True):
    """Coordinator: a quorum has agreed, so help to take the masks off.

    Attributes:
        devices: those that have agreed.
        signatures: of their Consent, in the roster's order.
    """

    devices: Bitmap
    signatures: Annotated[bytes, Meta(max_length=SIGNATURE_BYTES * MOST_DEVICES)]


class UnmaskAnswer(_Message, frozen=True, kw_only=True):
    """Device: a share for each sharer among my neighbours and myself, 16 bytes each, in the roster's order.

    Of a survivor's self mask, of a dropped device's mask key.
    """

    shares: Annotated[bytes, Meta(max_length=SHARE_BYTES * MOST_DEVICES)]


FromDevice: TypeAlias = Advertise | Reveal | Shares | Ready | Consent | UnmaskAnswer
FromCoordinator: TypeAlias = Roster | Numbers | Delivery | UnmaskRequest | Consents
Message: TypeAlias = FromDevice | FromCoordinator

_DECODER: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """The msgpack form of a message."""
    return msgspec.msgpack.encode(message)


def decode(data: bytes) -> Message:
    """Decode and validate one message.

    Raises:
        MessageInvalid: it is not msgpack, or has an unknown type or field or a value out of its range.
    """
    try:
        return _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MessageInvalid(f"Message of a masked sum refused: {str(error)[:500]}") from error


def bitmap(places: Iterable[int], devices: int) -> bytes:
    """The bitmap of a set of places in a roster of so many devices."""
    bits = bytearray(-(-devices // 8))
    for place in places:
        bits[place // 8] |= 1 << place % 8
    return bytes(bits)


def places(bits: bytes, devices: int) -> frozenset[int]:
    """The set of places in a bitmap.

    Raises:
        MessageInvalid: it is shorter or longer than a roster of so many devices needs, or names others.
    """
    found = frozenset(place for place in range(8 * len(bits)) if bits[place // 8] >> place % 8 & 1)
    if len(bits) != -(-devices // 8) or any(place >= devices for place in found):
        raise MessageInvalid(f"A set of devices that does not fit a roster of {devices}: {len(bits)} bytes of bits.")
    return found
