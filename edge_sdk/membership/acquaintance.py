"""Whom a device takes for its coordinator: the last state that was shown under the key it trusts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge_sdk.errors import CoordinatorUntrusted, SignatureInvalid
from edge_sdk.membership.journal import Journal
from edge_sdk.wire.messages import CoordinatorState, Step
from edge_sdk.wire.signing import fingerprint, trusted, verified


class Acquaintance:
    """What a device knows of the coordinator of `federation`.

    Args:
        journal: which keeps the key.
        tell: called with the name and the values of what is worth showing.

    Attributes:
        state: as it showed itself last, None before.
        untrusted: why somebody who showed himself is not listened to, None if there was no such.
    """

    def __init__(self, federation: str, journal: Journal, tell: Callable[..., None]) -> None:
        self.state: CoordinatorState | None = None
        self.untrusted: CoordinatorUntrusted | None = None
        self._federation = federation
        self._journal = journal
        self._tell = tell

    @property
    def online(self) -> bool:
        return self.state is not None and self.state.online

    def meet(self, heard: Any) -> bool:
        """Take in how a coordinator shows itself; whether it was that."""
        if not isinstance(heard, CoordinatorState):
            return False
        if self.state and not heard.online and heard.epoch < self.state.epoch:
            return True  # the will of an earlier life, come late
        known = self._journal.trusted_key
        try:
            key = trusted(known, heard.key, heard.successions, self._federation)
        except CoordinatorUntrusted as error:  # whoever it is, it is not ours
            self.untrusted = error
            self._tell("coordinator_untrusted", reason=str(error))
            return True
        # Of one that is gone, only a sign may have been left behind on the broker: the first to be trusted is there.
        if known != key and (known is not None or heard.online):
            self._journal.trust(key)
            self._tell("coordinator_trusted", key=fingerprint(key))
        if heard != self.state:
            self._tell("coordinator_online" if heard.online else "coordinator_offline", epoch=heard.epoch)
        self.state = heard
        return True

    def verified(self, step: Step) -> Step | None:
        """A step whose manifests the coordinator has signed; None if it has not: nothing comes of it."""
        key = self._journal.trusted_key
        if key is None:  # it has not shown itself yet, and will say this again
            return None
        try:
            return verified(step, key, self._federation)
        except SignatureInvalid as error:
            self._tell("step_refused", reason=str(error))
            return None
