"""Events: the input of the machine. The coordinator's messages are events as they are."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from edge_sdk.secure_aggregation.messages import FromCoordinator
from edge_sdk.secure_aggregation.terms import Terms


class Begin(msgspec.Struct, frozen=True):
    """A new attempt begins, or the coordinator has repeated its step.

    Attributes:
        terms: its terms, from the signed step.
        random: `RANDOM_BYTES` of the system's generator.
    """

    terms: Terms
    random: bytes

    def __repr__(self) -> str:
        """The terms alone, so that no log shows a secret."""
        return f"Begin({self.terms!r})"


class Vector(msgspec.Struct, frozen=True):
    """The plain vector is ready: `Terms.words` little-endian uint32. Fed in phase "ready"."""

    data: bytes

    def __repr__(self) -> str:
        """The length alone, so that no log shows an update."""
        return f"Vector({len(self.data)} bytes)"


class Restarted(msgspec.Struct, frozen=True):
    """The process has started anew, or the connection has come back: what was said last may be lost."""


Event: TypeAlias = Begin | Vector | Restarted | FromCoordinator
