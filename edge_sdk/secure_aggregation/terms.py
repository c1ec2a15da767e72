"""Terms of a masked sum: facts that all who take part in it know before, from the step that the coordinator signed."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from edge_sdk.secure_aggregation.policy import Parameters, Policy

Hash = Annotated[bytes, Meta(min_length=32, max_length=32)]
Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]


class Terms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The terms of one attempt at a masked sum.

    Attributes:
        federation: name of the federation.
        epoch: the coordinator's start in which the attempt was opened; it stays when the coordinator starts anew.
        round, attempt: numbers of the round, and of its opening; round 0 is a question of a clustering.
        step: SHA-256 of the step that the coordinator signed, which holds the model, the scales and these terms.
            Devices that were shown different steps get masks that do not cancel.
        words: length of the vectors.
        policy: assumptions that the graph and the threshold are computed from.
        losses: the most devices of the roster that the sum may lose; None: as many as the policy allows.
        once: true if a device helps to unmask one such sum in a round, as it is of updates; others are of answers that
            devices may give again.
    """

    federation: str
    epoch: Count
    round: Count
    attempt: Count
    step: Hash
    words: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    policy: Policy = Policy()
    losses: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    once: bool = True

    def fewest(self, devices: int, given: Parameters) -> int:
        """The fewest devices that a sum of so many at its beginning may come down to."""
        least = self.policy.fewest(devices, given)
        return least if self.losses is None else max(least, devices - self.losses)

    def honest(self, devices: int, given: Parameters) -> int:
        """The fewest devices of a sum of so many at its beginning that are left in it, and do not collude."""
        return self.policy.honest(devices, self.fewest(devices, given))

    @property
    def numbers(self) -> tuple[int, int, int]:
        """Numbers by which messages name the attempt: epoch, round, attempt."""
        return self.epoch, self.round, self.attempt

    def context(self, kind: str, *more: Any) -> bytes:
        """The content of a hash, a signature or a key derivation: msgpack of an array in the shortest encoding.

        ["impasto/1 <kind>", federation, epoch, round, attempt, step, ...]
        """
        return msgspec.msgpack.encode(
            [f"impasto/1 {kind}", self.federation, self.epoch, self.round, self.attempt, self.step, *more]
        )
