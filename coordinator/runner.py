"""The state of the rounds and its database: what is not saved has not happened.

Events change the state in memory, and the actions that they lead to wait. `settle` saves the state once for all of them
and only then lets the actions be carried out: a promise such as Committed never leaves before it is on disk, and a
thousand events that come together cost one synced transaction. Where the disk fails, what is unsaved and what is not
carried out stays due, and the next `settle` begins there.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from coordinator import rounds
from coordinator.store import Database, newly_counted
from edge_sdk.wire import DeviceProfile, Refused


class Runner:
    """The round machine of one federation, and its memory.

    Args:
        traffic: payload bytes received and sent so far, saved beside the state.

    Attributes:
        state: as it is now; the database may be behind until `settle`.
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
        self._profiles: dict[str, DeviceProfile | None] = {}  # None: to be forgotten

    def feed(self, event: rounds.Event) -> None:
        """One step of the machine; what it leads to waits for `settle`."""
        before, self._at = self.state, time.monotonic()
        self.state, actions = rounds.step(self._rules, before, event, self._at)
        if isinstance(event, rounds.Joined) and event.device in self.state.devices and not _refused(actions):
            self._profiles[event.device] = event.profile
        if isinstance(event, rounds.Forgotten) and event.device not in self.state.devices:
            self._profiles[event.device] = None
        if self.state is not before:
            self._unsaved = True
            self._counted += newly_counted(before, self.state)
        self._due += actions

    def reload(self) -> None:
        """Take the state as it is in the database now: a life begins, and nothing was fed to this one yet."""
        self.state = self._database.load()

    def replace(self, state: rounds.State) -> None:
        """Go on from another state than the one that was saved, with the next `settle`."""
        self.state, self._unsaved = state, True

    @property
    def settled(self) -> bool:
        """Whether all is saved and carried out."""
        return not (self._unsaved or self._profiles or self._due or self._ready)

    def next_wake(self) -> float | None:
        """When a Tick is due if nothing happens before, on the monotonic clock."""
        return rounds.next_wake(self._rules, self.state, self._at)

    def settle(self, act: Callable[[rounds.Action], rounds.Event | None]) -> None:
        """Save, then act; the events that actions answer with are fed, until nothing is left to do.

        Raises:
            Superseded: a later life has begun; nothing was saved.
            StoreUnavailable: the database cannot be written, or `act` says so; what is left is done by the next call.
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
        if self._profiles:
            self._database.put_profiles(self._profiles)
            self._profiles = {}
        if self._unsaved:
            self._database.save(self.state, self._counted, self._traffic())
            self._unsaved, self._counted = False, []


def _refused(actions: list[rounds.Action]) -> bool:
    return any(isinstance(action, rounds.Send) and isinstance(action.message, Refused) for action in actions)
