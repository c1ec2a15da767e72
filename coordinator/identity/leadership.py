"""The coordinator's claim to its federation: the state it retains on the broker, and what others retain in its place.

Whoever has a later epoch and our key, or a key that ours vouches for, is a later life of ours: it is given way to. What
anybody else says there is refused and written over, but not in a duel: at most once in a while.
"""

from __future__ import annotations

from coordinator.identity.keys import Keys
from edge_sdk.errors import CoordinatorUntrusted
from edge_sdk.wire import CoordinatorState, encode, fingerprint, recognised

# Seconds between two restatements: every device answers each, and two federations of one name would go on for ever.
_REPEAT = 10.0


class Leadership:
    """What one life of the coordinator says of itself.

    Attributes:
        online, offline: its encoded states, to be retained.
        due: when the topic is to be written over; None if there is no need.
    """

    def __init__(self, keys: Keys, federation: str, base_id: str, epoch: int) -> None:
        self._keys = keys
        self._federation = federation
        self._epoch = epoch

        def state(online: bool) -> CoordinatorState:
            return keys.signer.state(online=online, epoch=epoch, base_id=base_id, successions=keys.successions)

        self._ours = state(True)
        self.online, self.offline = encode(self._ours), encode(state(False))
        self.due: float | None = None
        self._heard = False  # our own word, after which nothing older comes any more
        self._restated = float("-inf")

    @property
    def heard(self) -> bool:
        """Whether our own word has come back from the broker."""
        return self._heard

    def read(self, state: CoordinatorState, now: float) -> int | None:
        """Take in what was said on our topic; the epoch of the later life to give way to, if there is one.

        Raises:
            CoordinatorUntrusted: by somebody who is no life of ours.
            SignatureInvalid: under a key of ours, but not signed by it.
        """
        if state == self._ours:
            self._heard = True
            return None
        if self._is_later(state):
            return state.epoch
        self.contested(now)
        return None

    def contested(self, now: float) -> None:
        """Something else than our state is retained. What lay there before our first word is gone with that."""
        if self._heard and self.due is None:
            self.due = max(now, self._restated + _REPEAT)

    def overlooked(self, now: float) -> None:
        """Something was said on our topic that nobody has read."""
        self._heard = True
        self.contested(now)

    def restated(self, now: float) -> None:
        """Our state was said again because it was due."""
        self._restated, self.due = now, None

    def _is_later(self, state: CoordinatorState) -> bool:
        """Whether it is a later life of ours; False for an earlier one, whose will comes late."""
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
