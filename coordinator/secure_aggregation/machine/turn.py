"""A turn: one step of the machine in progress."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from msgspec.structs import replace

from coordinator.secure_aggregation.machine.actions import Abandon, Action, Discard
from coordinator.secure_aggregation.state import State
from edge_sdk.errors import AttemptMismatch, ImpastoError, SignatureInvalid, TooFewDevices
from edge_sdk.secure_aggregation import (
    Advertisement,
    Consent,
    FromDevice,
    Graph,
    Ready,
    bitmap,
    graph,
)
from edge_sdk.wire import signed_by


class Turn:
    """One step in progress.

    Args:
        state: the state before the step.

    Attributes:
        state: the state so far.
        actions: the actions so far.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self.actions: list[Action] = []

    def set(self, **changes: Any) -> None:
        """Change the state."""
        self.state = replace(self.state, **changes)

    def abandon(self, error: ImpastoError) -> None:
        """End the attempt, of which nothing comes."""
        discarded = [Discard(sha256) for sha256 in self.state.uploads.values()]
        spent = self.state.phase in ("unmasking", "summing")
        self.state = State(
            terms=self.state.terms,
            cohort=self.state.cohort,
            phase="abandoned",
            reason=f"{type(error).__name__}: {error}",
        )
        self.actions += [*discarded, Abandon(error, spent)]

    def are_enough(self, there: int, have: str) -> bool:
        """Return True if so many devices are enough for the sum; otherwise abandon it.

        Args:
            there: the number of devices.
            have: what they have done, in words.
        """
        state = self.state
        fewest = state.terms.fewest(len(state.roster), state.given)
        if there >= fewest:
            return True
        self.abandon(
            TooFewDevices(f"{there} of {len(state.roster)} devices have {have}, and the sum asks for {fewest}.")
        )
        return False

    def graph(self) -> Graph:
        """Return the graph, once there is one."""
        return graph(len(self.state.roster), self.state.given.neighbours, self.state.seed)

    @cached_property
    def near(self) -> list[list[int]]:
        """The neighbours of each place, once there is a graph."""
        edges = self.graph()
        return [edges.neighbours(place) for place in range(edges.devices)]

    @cached_property
    def consents(self) -> tuple[bytes, bytes]:
        """The devices of a quorum that have agreed, as a bitmap, and their signatures; more would only be longer."""
        state, devices = self.state, len(self.state.roster)
        chosen = sorted(state.consents)[: state.terms.policy.quorum(devices)]
        return bitmap(chosen, devices), b"".join(state.consents[place] for place in chosen)

    def sets(self) -> tuple[bytes, bytes]:
        """Return survivors and dropped devices, as bitmaps."""
        state, devices = self.state, len(self.state.roster)
        return bitmap(state.survivors, devices), bitmap(state.sharers - state.survivors, devices)

    def place(self, device: str) -> int:
        """Return a device's place in the roster; raise AttemptMismatch if it has none."""
        for place, entry in enumerate(self.state.roster):
            if entry.device == device:
                return place
        raise AttemptMismatch(f"{device!r} is not in the roster of this attempt: nothing comes of what it sends.")

    def check_signature(self, entry: Advertisement, message: Ready | Consent, content: bytes) -> None:
        """Raise SignatureInvalid unless a message is a device's signature of a content."""
        if not signed_by(entry.identity, message.signature, content):
            raise SignatureInvalid(
                f"{type(message).__name__} of {entry.device!r} is not signed by its identity key for this sum."
            )

    def too_late(self, device: str, message: FromDevice) -> AttemptMismatch:
        """Return the error of a message that came out of its turn."""
        return AttemptMismatch(
            f"{type(message).__name__} of {device!r} came in phase {self.state.phase}: it counts no more, or not yet."
        )
