"""The loop: it takes arrivals in, saves once for all of them, acts, and looks after all that has come due."""

from __future__ import annotations

import time

from coordinator import rounds
from coordinator.identity import Leadership
from coordinator.ingress import Inbox, Item
from coordinator.runner import Runner
from coordinator.server.connection import Connection
from coordinator.server.departures import Departures
from coordinator.server.messages import Router
from coordinator.server.overload import Overload
from coordinator.server.performer import Performer
from coordinator.telemetry import Reports, Troubles
from coordinator.transfers import Sessions, Uploads

# Seconds of taking in arrivals before the state is saved; a longer batch would delay answers and ticks.
_BATCH = 0.05
# Longest sleep of the loop, so that a stop is noticed.
_NAP = 0.5


class Loop:
    """The loop of one federation. One thread calls `turn` again and again.

    Args:
        inbox: arrivals, and work from other threads.
        router: handles messages.
        runner: is fed ticks.
        performer: saves and acts.
        uploads, sessions: transfers with devices.
        departures: shut revoked devices out.
        leadership, connection: keep the coordinator's state on the broker.
        overload: tells of dropped messages.
        report: reports the status.
        troubles: is told of a store that does not work.
    """

    def __init__(
        self, inbox: Inbox[Item], router: Router, runner: Runner, performer: Performer, uploads: Uploads,
        sessions: Sessions, departures: Departures, leadership: Leadership, connection: Connection,
        overload: Overload, report: Reports, troubles: Troubles,
    ) -> None:  # fmt: skip
        self._inbox = inbox
        self._router = router
        self._runner = runner
        self._performer = performer
        self._uploads = uploads
        self._sessions = sessions
        self._departures = departures
        self._leadership = leadership
        self._connection = connection
        self._overload = overload
        self._report = report
        self._troubles = troubles

    def turn(self) -> None:
        """Wait for arrivals, and do all that is due. A store that does not work delays it, and ends nothing.

        Raises:
            Superseded: a newer instance has taken over.
        """
        self._take_in()
        self._performer.settle()
        self._overload.tell()
        self._report.status(self._runner.state, self._uploads.counts)
        now = time.monotonic()
        self._connection.keep_up(now)
        for device, effects in self._sessions.tick(now):
            self._uploads.consume(device, effects)
        self._tick(now)
        self._uploads.pull()
        self._performer.settle()

    def _take_in(self) -> None:
        item, until = self._inbox.get(self._patience()), time.monotonic() + _BATCH
        while item is not None:
            with self._troubles.enduring("state"):
                item() if callable(item) else self._router.take(*item)
            item = self._inbox.get(0) if time.monotonic() < until else None

    def _tick(self, now: float) -> None:
        """Feed a tick if time alone matters now. Revoked devices are shut out before, and every few seconds."""
        wake = self._next_wake()
        due = wake is not None and wake <= now
        if due or now >= self._departures.look_at:
            with self._troubles.enduring("state"):
                self._departures.shut_out_revoked()
        if due:
            self._runner.feed(rounds.Tick())

    def _patience(self) -> float:
        now = time.monotonic()
        dues = (self._sessions.due(now), self._next_wake(), self._leadership.due, self._performer.retry_at)
        return max(0.0, min([now + _NAP, *(due for due in dues if due is not None)]) - now)

    def _next_wake(self) -> float | None:
        """Return the time at which the machine needs a Tick; None if never."""
        return self._uploads.postponed(self._runner.next_wake())
