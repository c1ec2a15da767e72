"""A turn: one step of the machine in progress."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from edge_sdk.secure_aggregation.device.actions import Action, HandIn, Say
from edge_sdk.secure_aggregation.device.state import Phase, Rules, State
from edge_sdk.secure_aggregation.harary import Graph, graph
from edge_sdk.secure_aggregation.keys import Sealer, Secrets
from edge_sdk.secure_aggregation.messages import FromDevice, decode, encode
from edge_sdk.secure_aggregation.terms import Terms


class Turn:
    """One step in progress.

    Args:
        rules: facts about this device.
        state: the state before the step.

    Attributes:
        state: the state so far.
        actions: the actions so far.
    """

    def __init__(self, rules: Rules, state: State) -> None:
        self.rules = rules
        self.state = state
        self.actions: list[Action] = []

    def keys(self) -> tuple[Terms, Secrets]:
        """The terms of the attempt, and this device's secrets; they are gone once its vector is masked."""
        assert self.state.terms is not None, "there is an attempt"
        assert self.state.secrets is not None, "its vector is not yet masked"
        return self.state.terms, self.state.secrets

    def graph(self) -> Graph:
        """The graph of the roster."""
        return graph(len(self.state.roster), self.state.given.neighbours, self.state.seed)

    def sealer(self, secrets: Secrets) -> Sealer:
        """Encryption of shares with these secrets."""
        assert self.state.terms is not None, "there is an attempt"
        return Sealer(self.state.terms, self.state.digest, self.rules.device, secrets.share_private)

    def say(self, kind: Any, **fields: Any) -> None:
        """Say a message of this kind, and keep it for when it is to be said again."""
        terms = self.state.terms
        assert terms is not None, "there is an attempt"
        message = kind(epoch=terms.epoch, round=terms.round, attempt=terms.attempt, **fields)
        self.set(said=encode(message))
        self.actions.append(Say(message))

    def say_again(self) -> None:
        """Say the last message again, and hand in the masked vector if it was the last thing to do."""
        if self.state.phase != "idle":
            said = decode(self.state.said)
            assert isinstance(said, FromDevice), "it is this device's own"
            self.actions.append(Say(said))
        if self.state.phase == "masked":
            self.actions.append(HandIn())

    def move(self, phase: Phase) -> None:
        """Enter a phase."""
        self.set(phase=phase)

    def set(self, **changes: Any) -> None:
        """Change the state."""
        self.state = replace(self.state, **changes)
