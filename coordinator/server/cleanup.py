"""Cleanup after a round: nothing is kept that no state needs any more."""

from __future__ import annotations

from coordinator import rounds
from coordinator.learning import Learning
from coordinator.store import Database, StoredBlobs
from coordinator.transfers import Sessions, Uploads


class Cleanup:
    """Drops blobs, offers and transfers that are not needed any more, once a round, and after a device was erased.

    Args:
        database: is asked first for a newer instance, which may need other blobs.
        blobs: are pruned.
        uploads: drop offers of updates that cannot count any more.
        sessions: withdraw adapters.
        learning: has sketches of updates.
    """

    def __init__(
        self, database: Database, blobs: StoredBlobs, uploads: Uploads, sessions: Sessions, learning: Learning
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._uploads = uploads
        self._sessions = sessions
        self._learning = learning
        self._round = 0
        self._erasing = False

    def begin(self, state: rounds.State) -> None:
        """Note the state in which the stores were swept by a takeover."""
        self._round = state.round
        self._erasing = self._database.is_to_clean()

    def erase(self) -> None:
        """Note that a device was erased, whose files are to go without waiting for the end of a round."""
        self._erasing = True

    def is_due(self, state: rounds.State) -> bool:
        """Return True if a round was closed, or a device was erased, since the last cleanup."""
        return self._erasing or state.round != self._round

    def clean(self, state: rounds.State) -> None:
        """Drop all that this state does not need.

        Raises:
            Superseded: a newer instance has taken over; nothing was pruned.
            StoreUnavailable: a store does not answer; the cleanup stays due.
        """
        if state.round != self._round:
            self._uploads.forget()
        self._database.check()  # a newer instance may need other blobs
        needed = state.blobs() | self._uploads.needed
        self._blobs.prune(needed)
        self._sessions.withdraw_all_but(needed)
        self._round = state.round
        if self._erasing:
            traces = [device.trace for device in state.devices.values() if device.trace]
            self._learning.keep_sketches_of(traces)
            self._sessions.keep_only(state.devices)
            self._database.note_cleaned()
            self._erasing = False
