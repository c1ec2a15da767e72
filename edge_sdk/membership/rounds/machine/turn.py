"""A turn: one step of the machine in progress."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from edge_sdk.membership.rounds.actions import Action, Tell
from edge_sdk.membership.rounds.moves import Phase, is_legal
from edge_sdk.membership.rounds.state import Rules, State, Work
from edge_sdk.privacy import nearest_centroid, places_of
from edge_sdk.wire import ClusterStart, Finished, Offer, RoundStart, Step, plan_id


class Turn:
    """One step in progress. Every move between phases is asserted here.

    Args:
        rules: the rules of the membership.
        state: the state before the step.
        now: the time of the step.

    Attributes:
        state: the state so far.
        actions: the actions so far.
    """

    def __init__(self, rules: Rules, state: State, now: float) -> None:
        self.rules = rules
        self.state = state
        self.now = now
        self.actions: list[Action] = []

    def move(self, phase: Phase) -> None:
        """Move to a phase, or stay in it."""
        assert is_legal(self.state.phase, phase), f"no move from {self.state.phase} to {phase}"
        self.set(phase=phase)

    def set(self, **changes: Any) -> None:
        """Change the state."""
        self.state = replace(self.state, **changes)

    def tell(self, event: str, **values: Any) -> None:
        """Tell the owner of an event."""
        self.actions.append(Tell(event, values))

    def plan(self, step: Step) -> str:
        """Return the id of the work that a round, or a question, asks for."""
        assert isinstance(step, RoundStart | ClusterStart), "the last step asks for no work"
        return plan_id(self.rules.federation, step)

    def cluster_in(self, step: Step) -> int | None:
        """Return this device's cluster: the one that a step names, or the nearest of those to choose from."""
        if isinstance(step, RoundStart | Finished):
            if step.cluster is not None:
                return step.cluster
            if step.centroids and self.rules.code:
                return nearest_centroid(self.rules.code, places_of(step.centroids))
        return self.state.cluster

    def has_enough(self) -> bool:
        """Return True if the device has taken part in as many rounds as it wanted."""
        return self.rules.rounds is not None and len(self.state.committed) >= self.rules.rounds

    def offered(self) -> tuple[Work, Offer]:
        """Return the last update in the journal, and its offer; there must be one."""
        work = self.state.outbox
        assert work is not None, "there is an update"
        assert work.offer is not None, "it is trained"
        return work, work.offer

    def is_offered(self, sha256: str) -> bool:
        """Return True if an update of this hash is being handed in."""
        return self.state.phase == "handing_in" and self.offered()[1].manifest.sha256 == sha256

    def is_awaited(self, sha256: str) -> bool:
        """Return True if the adapter of this hash is being fetched."""
        missing = self.state.missing
        return self.state.phase == "bringing" and bool(missing) and missing[0].sha256 == sha256
