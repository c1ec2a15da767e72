"""The end of an instance: asked for, or as a newer one has taken over; and the order in which everything closes."""

from __future__ import annotations

import threading
from contextlib import suppress

from coordinator.identity import Home
from coordinator.server.connection import Connection
from coordinator.server.performer import Performer
from coordinator.store import Database
from coordinator.telemetry import Reports
from coordinator.transfers import Sessions, Uploads
from edge_sdk.errors import StoreUnavailable, Superseded


class Ending:
    """Ends one instance of the coordinator.

    Args:
        federation: name of the federation.
        connection, uploads, performer, sessions, database, home: are closed, in this order.
        report: reports that a newer instance has taken over.
    """

    def __init__(
        self, federation: str, connection: Connection, uploads: Uploads, performer: Performer, sessions: Sessions,
        database: Database, home: Home, report: Reports,
    ) -> None:  # fmt: skip
        self._federation = federation
        self._connection = connection
        self._uploads = uploads
        self._performer = performer
        self._sessions = sessions
        self._database = database
        self._home = home
        self._report = report
        self._asked = threading.Event()
        self._spoken = False
        self._superseded: Superseded | None = None

    @property
    def is_asked(self) -> bool:
        """True if the instance is to end soon."""
        return self._asked.is_set()

    def stop(self) -> None:
        """Ask for the end; from any thread or signal handler."""
        self._asked.set()
        self._connection.hurry()

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds`; return True at once if the end is asked for."""
        return self._asked.wait(seconds)

    def speak(self) -> None:
        """Note that the instance is about to speak for the federation: at the end it says that it is offline."""
        self._spoken = True

    def give_way(self, epoch: int) -> None:
        """End, as a newer instance with this epoch was seen on the broker.

        Raises:
            StoreUnavailable: the epoch cannot be noted, as the disk may be full.
        """
        self._superseded = Superseded(
            f"Another coordinator of federation {self._federation!r} (start {epoch}) has taken over on this broker. "
            "Stop the one that is not wanted, then start this one again. If there is no other, an earlier start was "
            "in the future (a clock was wrong): start again, it goes on from there."
        )
        self._report("coordinator_superseded", epoch=epoch)
        self.stop()
        self._database.note_epoch(epoch)

    def was_superseded(self, error: Superseded) -> None:
        """Note that a newer instance has taken the database over."""
        self._superseded = error
        with suppress(StoreUnavailable):
            self._report("coordinator_superseded", epoch=self._database.latest_epoch())

    def close(self) -> None:
        """Close everything. Devices are told that the coordinator is offline, unless another one is online."""
        if self._spoken and self._superseded is None:
            self._connection.hang_up()
        else:  # the other coordinator publishes its own state
            self._connection.close()
        self._uploads.close()
        self._performer.close()
        self._sessions.close()
        self._database.close()
        self._home.close()

    def release(self) -> None:
        """Close an instance that was never run."""
        self._connection.close()
        self._sessions.close()
        self._database.close()
        self._home.close()

    def check(self) -> None:
        """Raise Superseded if the instance has ended because of a newer one."""
        if self._superseded is not None:
            raise self._superseded
