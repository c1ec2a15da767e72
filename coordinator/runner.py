"""The state of the rounds and its database: only a saved state takes effect.

Events change the state in memory, and the resulting actions wait. `settle` saves the state once for all of them and
only then carries the actions out: an acknowledgement such as Committed never leaves before it is on disk, and a
thousand events that arrive together cost one synced transaction. If the disk fails, unsaved states and open actions
stay due, and the next `settle` continues with them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from coordinator import rounds
from coordinator.store import Database, newly_counted, newly_summed
from edge_sdk.wire import DeviceProfile, Refused


class Runner:
    """The round machine of one federation with its saved state.

    Args:
        rules: the rules of the rounds.
        database: the state is loaded from it and saved to it.
        traffic: returns the payload bytes received and sent so far, saved with the state.

    Attributes:
        state: the current state; the database may lag behind until `settle`.
    """

    def __init__(self, rules: rounds.Rules, database: Database, traffic: Callable[[], tuple[int, int]]) -> None:
        self.state = database.load()
        self._rules = rules
        self._database = database
        self._traffic = traffic
        self._at = 0.0  # the time of the last step
        self._due: list[rounds.Action] = []
        self._ready: deque[rounds.Action] = deque()  # saved, to be carried out
        self._unsaved = False
        self._counted: list[dict[str, Any]] = []
        self._summed: list[dict[str, Any]] = []
        self._profiles: dict[str, DeviceProfile | None] = {}  # None: to be deleted
        self._erased: dict[str, bytes] = {}  # devices to be erased, and their keys

    def feed(self, event: rounds.Event) -> None:
        """Do one step of the machine; its actions wait for `settle`."""
        before, self._at = self.state, time.monotonic()
        self.state, actions = rounds.step(self._rules, before, event, self._at)
        if (
            isinstance(event, rounds.Joined)
            and event.device in self.state.devices
            and not _turned_away(event.device, actions)
        ):
            self._profiles[event.device] = event.profile
        if isinstance(event, rounds.Forgotten) and event.device not in self.state.devices:
            self._profiles[event.device] = None
        if isinstance(event, rounds.Erase) and event.device in before.devices:
            self._profiles[event.device] = None
            self._erased[event.device] = event.key
        if self.state != before:
            self._unsaved = True
            self._counted += newly_counted(before, self.state)
            self._summed += newly_summed(before, self.state)
        self._due += actions

    def reload(self) -> None:
        """Load the state from the database again, before any event is fed to this instance."""
        self.state = self._database.load()

    def replace(self, state: rounds.State) -> None:
        """Continue from another state than the saved one; the next `settle` saves it."""
        self.state, self._unsaved = state, True

    @property
    def settled(self) -> bool:
        """True if everything is saved and carried out."""
        return not (self._unsaved or self._profiles or self._due or self._ready)

    def next_wake(self) -> float | None:
        """Return the time on the monotonic clock at which a Tick is due if nothing happens before; None if never."""
        return rounds.next_wake(self._rules, self.state, self._at)

    def settle(self, act: Callable[[rounds.Action], rounds.Event | None]) -> None:
        """Save, then act, and feed the events that actions return, until nothing is left to do.

        Raises:
            Superseded: a newer instance has taken over; nothing was saved.
            StoreUnavailable: the database cannot be written, or `act` raised it; the next call does the rest.
        """
        while not self.settled:
            if not self._ready:
                self._save()
                self._ready, self._due = deque(self._due), []
            while self._ready:
                answer = act(self._ready[0])
                self._ready.popleft()
                if answer is not None:
                    self.feed(answer)

    def _save(self) -> None:
        profiles = self._database.new_profiles(self._profiles) if self._profiles else {}
        if self._unsaved or profiles:
            self._database.save(
                self.state, self._counted, self._traffic(), profiles, summed=self._summed, erased=self._erased
            )
        self._unsaved, self._counted, self._summed, self._profiles, self._erased = False, [], [], {}, {}


def _turned_away(device: str, actions: list[rounds.Action]) -> bool:
    """Return True if a device's Join was refused; other refusals may follow from the same step."""
    sent = (action for action in actions if isinstance(action, rounds.Send) and action.device == device)
    return any(isinstance(send.message, Refused) and send.message.about == "join" for send in sent)
