"""The coordinator's claim to its federation: its state retained on the broker, and competing states.

A newer instance, with a later epoch and our key or a key that ours vouches for, supersedes us. States of anybody else
are refused and overwritten, at most once in `_REPEAT` seconds, so that two coordinators do not overwrite each other
without end.
"""

from __future__ import annotations

from coordinator.identity.keys import Keys
from edge_sdk.errors import CoordinatorUntrusted
from edge_sdk.privacy import Guarantee
from edge_sdk.wire import CoordinatorState, encode, fingerprint, recognised

# Seconds between two overwrites: every device answers each, and two federations of one name would never stop.
_REPEAT = 10.0


class Leadership:
    """The claim of one instance of the coordinator.

    Attributes:
        online, offline: its encoded states, to be retained on the broker.
        due: time at which the topic is to be overwritten; None if there is no need.
    """

    def __init__(
        self,
        keys: Keys,
        federation: str,
        base_id: str,
        level: str,
        epoch: int,
        *,
        masked: bool = False,
        noise: Guarantee | None = None,
    ) -> None:
        self._keys = keys
        self._federation = federation
        self._epoch = epoch

        def state(online: bool) -> CoordinatorState:
            return keys.signer.state(
                online=online,
                epoch=epoch,
                base_id=base_id,
                level=level,
                masked=masked,
                noise=noise,
                successions=keys.successions,
            )

        self._ours = state(True)
        self.online, self.offline = encode(self._ours), encode(state(False))
        self.due: float | None = None
        self._heard = False  # our own state came back; nothing older follows it
        self._restated = float("-inf")

    @property
    def heard(self) -> bool:
        """True if our own state has come back from the broker."""
        return self._heard

    def read(self, state: CoordinatorState, now: float) -> int | None:
        """Take in a state from our topic; return the epoch of the newer instance that supersedes us, or None.

        Raises:
            CoordinatorUntrusted: the state is of somebody who is no instance of this coordinator.
            SignatureInvalid: the state has a key of ours, but that key did not sign it.
        """
        if state == self._ours:
            self._heard = True
            return None
        if self._is_later(state):
            return state.epoch
        self.contested(now)
        return None

    def contested(self, now: float) -> None:
        """Note that another state than ours is retained, and schedule an overwrite.

        Before our own state has come back this is ignored: that state has replaced whatever was retained.
        """
        if self._heard and self.due is None:
            self.due = max(now, self._restated + _REPEAT)

    def overlooked(self, now: float) -> None:
        """Note that a message on our topic was dropped unread."""
        self._heard = True
        self.contested(now)

    def restated(self, now: float) -> None:
        """Note that our state was published again because it was due."""
        self._restated, self.due = now, None

    def _is_later(self, state: CoordinatorState) -> bool:
        """True for a newer instance of ours; False for an older one, whose will arrives late."""
        try:
            recognised(self._keys.signer.public, state, self._federation)
        except CoordinatorUntrusted as error:
            former = {said.old for said in self._keys.successions}
            if state.key not in former or state.epoch >= self._epoch:
                raise CoordinatorUntrusted(
                    f"Somebody with key {fingerprint(state.key)} says to be the coordinator of {self._federation!r} "
                    f"(start {state.epoch}): not given way to. Let the coordinator alone publish on its topic, see "
                    "samples/broker/acl; if it is a coordinator of yours, give it another federation's name, or this "
                    "one's keys.json."
                ) from error
            recognised(state.key, state, self._federation)
            return False
        return state.epoch > self._epoch
