"""The state of a device in an attempt, and its record in a journal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

from edge_sdk.errors import JournalDamaged
from edge_sdk.secure_aggregation.keys import Secrets
from edge_sdk.secure_aggregation.messages import Advertisement
from edge_sdk.secure_aggregation.policy import Parameters
from edge_sdk.secure_aggregation.terms import Terms

Phase: TypeAlias = Literal["idle", "advertised", "revealed", "shared", "ready", "masked", "consented", "answered"]


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about this device that outlive an attempt.

    Attributes:
        device: its name.
        identity: its private Ed25519 key, 32 bytes.
        known: identity keys of other devices by name, as far as they are known; a roster that shows others is refused.
    """

    device: str
    identity: bytes
    known: Mapping[str, bytes] = {}

    def __repr__(self) -> str:
        """The device's name alone, so that no log shows a key."""
        return f"Rules({self.device!r})"


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a device in an attempt.

    Attributes:
        phase: its phase.
        terms: the terms of the attempt; None in phase "idle".
        secrets: its secrets; None once they are no longer needed.
        roster: the devices of the sum.
        given: the parameters of the sum.
        digest: hash of both.
        here: this device's place in the roster.
        seed: the seed of the graph; empty in a complete one.
        heard: SHA-256 of the coordinator's message that was taken in last; the same one is answered the same again.
        said: the last message to the coordinator, encoded.
        sharers: bitmap of the devices that take part in masking.
        held: shares of the secrets of each sharer among the neighbours (self mask, mask key: 32 bytes) by place, and
            the own one of the self mask (16 bytes).
        masked: the masked vector, once there is one.
        answer: survivors and dropped of the sum that it has agreed to; None before. It agrees to no other in an
            attempt.
        spent: the last round, before this attempt, of which it has helped to unmask a sum of updates; None if there is
            none.
    """

    phase: Phase = "idle"
    terms: Terms | None = None
    secrets: Secrets | None = None
    roster: tuple[Advertisement, ...] = ()
    given: Parameters = Parameters(0, 0)
    digest: bytes = b""
    here: int = 0
    seed: bytes = b""
    heard: bytes = b""
    said: bytes = b""
    sharers: bytes = b""
    held: dict[int, bytes] = {}
    masked: bytes = b""
    answer: tuple[bytes, bytes] | None = None
    spent: int | None = None

    @property
    def honest(self) -> int:
        """The fewest devices in the sum that do not collude, whoever is lost; see `Terms.honest`."""
        assert self.terms is not None, "there is an attempt"
        return self.terms.honest(len(self.roster), self.given)

    @property
    def helped_in(self) -> int | None:
        """The last round of which it has helped to unmask a sum of updates, this attempt included."""
        if self.phase == "answered" and self.terms is not None and self.terms.once:
            return self.terms.round
        return self.spent

    def __repr__(self) -> str:
        """Phase and numbers, so that no log shows a key or a share."""
        return f"State({self.phase!r}, {self.terms.numbers if self.terms else None})"


def record_of(state: State) -> bytes:
    """The state as bytes, for a journal. It holds secrets."""
    return msgspec.msgpack.encode(state)


def restored(record: bytes) -> State:
    """The state of a record.

    Raises:
        JournalDamaged: it is none.
    """
    try:
        return msgspec.msgpack.decode(record, type=State)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise JournalDamaged(f"The record of a masked sum is damaged ({str(error)[:200]}).") from error
