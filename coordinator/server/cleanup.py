"""Cleanup after a round: nothing is kept that no state needs any more."""

from __future__ import annotations

from coordinator import rounds
from coordinator.store import Database, StoredBlobs
from coordinator.transfers import Sessions, Uploads


class Cleanup:
    """Drops blobs, offers and transfers that are not needed any more, once a round.

    Args:
        database: is asked first for a newer instance, which may need other blobs.
        blobs: are pruned.
        uploads: drop offers of updates that cannot count any more.
        sessions: withdraw adapters.
    """

    def __init__(self, database: Database, blobs: StoredBlobs, uploads: Uploads, sessions: Sessions) -> None:
        self._database = database
        self._blobs = blobs
        self._uploads = uploads
        self._sessions = sessions
        self._round = 0

    def begin(self, state: rounds.State) -> None:
        """Note the state in which the stores were swept by a takeover."""
        self._round = state.round

    def is_due(self, state: rounds.State) -> bool:
        """Return True if a round was closed since the last cleanup."""
        return state.round != self._round

    def clean(self, state: rounds.State) -> None:
        """Drop all that this state does not need.

        Raises:
            Superseded: a newer instance has taken over; nothing was pruned.
            StoreUnavailable: a store does not answer; the cleanup stays due.
        """
        self._uploads.forget()
        self._database.check()  # a newer instance may need other blobs
        needed = state.blobs() | self._uploads.needed
        self._blobs.prune(needed)
        self._sessions.withdraw_all_but(needed)
        self._round = state.round
