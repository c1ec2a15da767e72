"""Transfer sessions with all devices: one exchange each, for the adapters offered and the updates pulled.

Adapters are served from one copy of their bytes. Chunks of updates go to the spool as they arrive. With a bandwidth
limit, chunks to devices wait here, without their bytes; messages never wait.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Container, Iterable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from coordinator.ingress import Rates
from coordinator.store import Blobs
from coordinator.transfers.queue import PLACES
from coordinator.transfers.spool import Spool
from edge_sdk.errors import TransferError
from edge_sdk.transport import Pacer, credit_for
from edge_sdk.wire import DEFAULT_CREDIT, MAX_CHUNK, Effect, Exchange, Manifest, Message, exchange

# Role of pulled updates; offered adapters have other roles, and may have the same content.
UPDATE: Final = "update"
_log = logging.getLogger(__name__)


class Sessions:
    """Transfer sessions with all devices. Passes effects on, except for chunks that wait and contents that are void.

    Args:
        blobs: source of the offered adapters.
        spool: unfinished updates.
        max_bytes: largest size of the updates being pulled from one device.
        bandwidth: bytes per second of chunks to all devices together; None: no limit.
        downloads: limits of the chunks that a device may request.
    """

    def __init__(self, blobs: Blobs, spool: Spool, max_bytes: int, bandwidth: float | None, downloads: Rates) -> None:
        self._blobs = blobs
        self._spool = spool
        self._max_bytes = max_bytes
        self._bandwidth = bandwidth
        self._downloads = downloads
        # All pulls share one connection, so each has its share of the credit.
        share = None if bandwidth is None else bandwidth / PLACES
        self._credit = credit_for(share, MAX_CHUNK, DEFAULT_CREDIT)
        self._exchanges: dict[str, Exchange] = {}
        self._pulled: set[str] = set()  # only the exchanges of these devices need ticks
        self._published: dict[str, bytes] = {}
        self._pacer: Pacer[exchange.SendChunk] = Pacer(bandwidth)
        self._sessions: dict[str, int] = {}

    def __contains__(self, device: str) -> bool:
        return device in self._exchanges

    # calls of the service --------------------------------------------------------------------------------------------

    def offer(self, device: str, manifests: Iterable[Manifest]) -> None:
        """Prepare to answer the device's pulls of these adapters.

        Raises:
            TransferError: a blob is missing.
        """
        for manifest in manifests:
            if manifest.sha256 not in self._published:
                self._published[manifest.sha256] = self._blobs.get(manifest.sha256)
            self._of(device).offer(self._published[manifest.sha256], manifest)

    def withdraw_all_but(self, needed: Set[str]) -> None:
        """Withdraw all offered adapters except those with these hashes."""
        for sha256 in set(self._published) - needed:
            del self._published[sha256]
            for device, peer in self._exchanges.items():
                peer.withdraw(sha256)
                self._pacer.forget(sha256, device)

    def dismiss(self, device: str) -> None:
        """Drop all waiting chunks to a device that takes no part any more."""
        self._pacer.forget(to=device)

    def forget(self, device: str) -> None:
        """Forget a device, and what came of its update; nothing is being pulled from it."""
        self.dismiss(device)
        with _on_disk(device):
            self._spool.forget(device)
        self._exchanges.pop(device, None)
        self._sessions.pop(device, None)
        self._pulled.discard(device)
        self._downloads.forget(device)

    def fetch(self, device: str, manifest: Manifest, now: float, deadline: float, session: int) -> list[Effect]:
        """Pull the missing chunks of an update from the device, in its present session.

        Raises:
            TransferError: the update is too large.
            OSError: the disk has no room for it.
        """
        peer = self._of(device)
        if manifest.size > peer.room:
            raise TransferError(f"The update would take {manifest.size} bytes, more than the {peer.room} accepted.")
        have, buffer = self._spool.open(device, manifest)
        self._sessions[device] = session
        self._pulled.add(device)
        return self._sorted(device, peer.fetch(manifest, now, deadline, have=have, buffer=buffer), now)

    def offered_again(self, device: str, sha256: str, now: float, session: int) -> list[Effect]:
        """Note a repeated offer of an update being pulled; in a new session, request its missing chunks again."""
        before, self._sessions[device] = self._sessions.get(device), session
        return self._of(device).pull_again(sha256, now) if before != session else []

    def cancel(self, device: str, sha256: str) -> None:
        """Stop pulling an update; its chunks stay in the spool."""
        self._of(device).cancel(sha256)
        self._spool.rest(device, sha256)

    def whole(self, device: str, manifest: Manifest) -> Path:
        """Return the file of a complete update, to be stored, or dropped by `settle`.

        Raises:
            OSError: the file is missing.
        """
        return self._spool.whole(device, manifest)

    def settle(self, device: str, sha256: str) -> None:
        """Drop the chunks of an update that was stored or cannot be used."""
        with _on_disk(device):
            self._spool.drop(device, sha256)

    def settle_all_but(self, wanted: Collection[tuple[str, str]]) -> None:
        """Drop the chunks of all updates but these, by device and hash."""
        with _on_disk("some device"):
            self._spool.prune(wanted)

    def keep_only(self, devices: Container[str]) -> None:
        """Drop the chunks of the updates of all other devices."""
        with _on_disk("some device"):
            self._spool.keep_only(devices)

    def progress(self, device: str, sha256: str) -> tuple[int, int] | None:
        """Return (chunks received, chunks in all) of an update being pulled; None if it is not being pulled."""
        return self._of(device).progress(sha256)

    def close(self) -> None:
        """End all transfers; chunks of updates stay in the spool."""
        self._spool.close()

    # events -------------------------------------------------------------------------------------------------------

    def on_message(self, device: str, message: Message, now: float) -> list[Effect]:
        """Handle a message as `Exchange.on_message`.

        Chunks beyond the device's limits are dropped; it requests them again.
        """
        return self._sorted(device, self._of(device).on_message(message, now), now)

    def on_chunk(self, device: str, payload: bytes, now: float) -> list[Effect]:
        """Handle a chunk as `Exchange.on_chunk`; a chunk that cannot be written counts as not received."""
        effects: list[Effect] = []
        with _on_disk(device):
            effects = self._of(device).on_chunk(payload, now)
        return self._sorted(device, effects, now)

    def due(self, now: float) -> float | None:
        """Return the time of the next `tick`; None if none is needed."""
        ticks = [tick for device in self._pulled if (tick := self._of(device).next_tick) is not None]
        turn = self._pacer.due(now)
        return min([*ticks, *([] if turn is None else [turn])], default=None)

    def tick(self, now: float) -> Iterator[tuple[str, list[Effect]]]:
        """Yield the effects that are due, by device. The iterator is to be read to its end."""
        for device in list(self._pulled):
            peer = self._of(device)
            due = peer.next_tick
            if due is None:
                self._pulled.discard(device)
            elif due <= now:
                effects: list[Effect] = []
                with _on_disk(device):
                    effects = peer.tick(now)
                yield device, self._sorted(device, effects, now)
        while turn := self._pacer.take(now):
            device, chunk = turn
            yield device, [chunk]

    # inside ---------------------------------------------------------------------------------------------------------

    def _of(self, device: str) -> Exchange:
        if device not in self._exchanges:
            self._exchanges[device] = Exchange(max_bytes=self._max_bytes, credit=self._credit, keeping=True)
        return self._exchanges[device]

    def _sorted(self, device: str, effects: list[Effect], now: float) -> list[Effect]:
        """Handle arrived chunks of updates and chunks that have to wait; return the other effects."""
        others: list[Effect] = []
        for effect in effects:
            match effect:
                case exchange.Arrived(_, chunk):
                    with _on_disk(device):
                        self._spool.mark(device, chunk.sha256, chunk.index)
                    others.append(effect)
                case exchange.Discarded(manifest):
                    with _on_disk(device):
                        self._spool.empty(device, manifest.sha256)
                case exchange.SendChunk():  # counts for the limit when it is requested, and once while it waits
                    if not (self._pacer.takes(effect, device) and self._admits(device, effect, now)):
                        continue
                    if self._bandwidth is None:
                        others.append(effect)
                    else:
                        self._pacer.put(effect, device)
                case exchange.Failed(manifest) if manifest.role == UPDATE:
                    self._spool.rest(device, manifest.sha256)
                    others.append(effect)
                case exchange.Delivered(manifest) | exchange.Failed(manifest):  # of an offered adapter
                    self._pacer.forget(manifest.sha256, device)
                    others.append(effect)
                case _:
                    others.append(effect)
        return others

    def _admits(self, device: str, chunk: exchange.SendChunk, now: float) -> bool:
        return self._downloads.admits(device, chunk.size, now, chunk=True)


@contextmanager
def _on_disk(device: str) -> Iterator[None]:
    """Log a failing disk. An unwritten chunk is requested again; an unwritten mark only matters after a restart."""
    try:
        yield
    except OSError as error:
        _log.error("The file of %s's update cannot be used: %s.", device, error)
