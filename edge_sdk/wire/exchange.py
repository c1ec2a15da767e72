"""All transfers with one peer, both ways, without I/O: events and the time go in, effects come out.

    exchange.offer(data, manifest)                   answer the peer's pulls for this content
    exchange.fetch(manifest, now, deadline)          pull a content that the peer has announced
    exchange.on_message(message, now)                a Pull, Committed or Refused came from the peer
    exchange.on_chunk(payload, now)                  a chunk came from the peer
    exchange.tick(now)                               time went by; call it at `next_tick` at the latest

Calls return the effects to carry out, in order. After `Received`, store the content durably, then call `commit`: only
this acknowledges to the peer that its content is safe. Times are seconds on any monotonic clock. Not thread-safe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from edge_sdk.errors import DeadlineExceeded, ImpastoError, TransferError
from edge_sdk.wire.messages import CHUNK_HEADER, Committed, Manifest, Message, Pull, Refused
from edge_sdk.wire.transfer import (
    DEFAULT_CREDIT,
    DEFAULT_MAX_SIZE,
    Buffer,
    Chunk,
    Data,
    Receiver,
    Sender,
    decode_chunk,
)

PATIENCE = 5.0
NOT_OFFERED = "NotOffered"  # code of the Refused that answers a Pull for a content that is not offered
ATTEMPTS = 3  # times that a content is fetched if its hash is wrong
_MAX_PATIENCE = 60.0


@dataclass(frozen=True)
class Send:
    """Publish this message on the peer's control topic."""

    message: Pull | Committed | Refused


@dataclass(frozen=True, match_args=False)
class SendChunk:
    """Publish this payload on the peer's chunk topic. It is made on access, so that a waiting chunk takes no memory."""

    sender: Sender
    index: int
    __match_args__ = ("payload",)

    @property
    def sha256(self) -> str:
        return self.sender.manifest.sha256

    @property
    def size(self) -> int:
        """Bytes of the payload."""
        manifest = self.sender.manifest
        return CHUNK_HEADER + min(manifest.chunk_size, manifest.size - self.index * manifest.chunk_size)

    @property
    def payload(self) -> bytes:
        return self.sender.chunk(self.index)


@dataclass(frozen=True)
class Arrived:
    """A new chunk of a content being fetched came: keep it, so that a restart need not pull it again."""

    manifest: Manifest
    chunk: Chunk


@dataclass(frozen=True)
class Discarded:
    """The chunks of a content do not match its hash: forget them."""

    manifest: Manifest


@dataclass(frozen=True)
class Received:
    """A content is complete and its hash is right: store it, then call `commit`."""

    manifest: Manifest
    data: bytes


@dataclass(frozen=True)
class Delivered:
    """The peer has stored the offered content; the offer is closed."""

    manifest: Manifest


@dataclass(frozen=True)
class Failed:
    """A fetch or an offer has ended without success: TransferError, or DeadlineExceeded.

    by_peer: True if the peer has ended it, so that it need not be told.
    """

    manifest: Manifest
    error: ImpastoError
    by_peer: bool = False


Effect: TypeAlias = Send | SendChunk | Arrived | Discarded | Received | Delivered | Failed


@dataclass
class _Fetch:
    receiver: Receiver
    deadline: float
    patience: float
    retry_at: float
    attempt: int = 1


class Exchange:
    """The transfers with one peer.

    Args:
        max_bytes: limit of all contents being fetched together; more is refused before memory is taken.
        credit: number of chunks of one content that may be under way, 1 to 64.
        patience: seconds without a new chunk after which a content is pulled again; doubles with each failed attempt.
        keeping: True to report `Arrived` and `Discarded`, for an owner that resumes fetches after a restart.
    """

    def __init__(
        self,
        *,
        max_bytes: int = DEFAULT_MAX_SIZE,
        credit: int = DEFAULT_CREDIT,
        patience: float = PATIENCE,
        keeping: bool = False,
    ) -> None:
        self._keeping = keeping
        self._max_bytes = max_bytes
        self._credit = credit
        self._patience = patience
        self._offers: dict[str, Sender] = {}
        self._fetches: dict[str, _Fetch] = {}

    @property
    def next_tick(self) -> float | None:
        """Time at which `tick` is due; None if nothing is being fetched."""
        return min((min(fetch.retry_at, fetch.deadline) for fetch in self._fetches.values()), default=None)

    @property
    def room(self) -> int:
        """Largest size in bytes of the next content to be fetched."""
        return self._max_bytes - sum(fetch.receiver.manifest.size for fetch in self._fetches.values())

    def progress(self, sha256: str) -> tuple[int, int] | None:
        """Chunks received, and chunks in all, of a content being fetched; None if it is not being fetched."""
        fetch = self._fetches.get(sha256)
        return (fetch.receiver.received, fetch.receiver.manifest.chunks) if fetch else None

    # --- what the owner wants -----------------------------------------------------------------------------------

    def offer(self, data: Data, manifest: Manifest) -> None:
        """Answer pulls for `data` until it is committed, refused or withdrawn. The owner announces it.

        Raises:
            TransferError: the data does not match the manifest.
        """
        self._offers[manifest.sha256] = Sender(data, manifest)

    def withdraw(self, sha256: str) -> None:
        """Forget an offer, if there is one."""
        self._offers.pop(sha256, None)

    def fetch(
        self,
        manifest: Manifest,
        now: float,
        deadline: float,
        *,
        have: bytes = b"",
        buffer: Buffer | None = None,
    ) -> list[Effect]:
        """Begin to pull a content. If it is being fetched already, only its deadline is prolonged.

        have, buffer: bitmap of the chunks that an earlier attempt has left, and the buffer that holds them, see
            `Receiver`; only the others are pulled.

        Raises:
            TransferError: it would take more memory than `max_bytes`, or `buffer` is of another size; nothing changes.
        """
        known = self._fetches.get(manifest.sha256)
        if known is not None:
            known.deadline = max(known.deadline, deadline)
            return []
        receiver = Receiver(manifest, max_size=self.room, credit=self._credit, have=have, buffer=buffer)
        fetch = _Fetch(receiver, deadline, self._patience, now + self._patience)
        self._fetches[manifest.sha256] = fetch
        return self._finish(fetch, now) if receiver.done else _send(receiver.pull())

    def pull_again(self, sha256: str, now: float) -> list[Effect]:
        """Pull a content again at once, after the peer has restarted and forgotten earlier pulls."""
        fetch = self._fetches.get(sha256)
        if fetch is None:
            return []
        fetch.retry_at = now + fetch.patience
        return _send(fetch.receiver.pull())

    def cancel(self, sha256: str) -> None:
        """Give up a fetch, if there is one, without telling the peer."""
        self._fetches.pop(sha256, None)

    def commit(self, sha256: str) -> list[Effect]:
        """Acknowledge to the peer that a content is stored and synced. May be repeated, even long afterwards."""
        return [Send(Committed(sha256=sha256))]

    def refuse(self, sha256: str, error: ImpastoError) -> list[Effect]:
        """Tell the peer that a content is not accepted, and why."""
        self.cancel(sha256)
        return [Send(Refused(code=type(error).__name__, reason=str(error)[:1000], about=sha256))]

    # --- what the peer does -------------------------------------------------------------------------------------

    def on_message(self, message: Message, now: float) -> list[Effect]:
        """Take in a Pull, Committed or Refused; other messages are ignored.

        A Refused ends an offer, or a fetch if there is no such offer or its code is "NotOffered".

        Raises:
            TransferError: a pull asks for chunks that do not exist; nothing changes.
        """
        if isinstance(message, Pull):
            sender = self._offers.get(message.sha256)
            if sender is None:
                reason = "This content is not offered (any more). Ask for a new manifest."
                return [Send(Refused(code=NOT_OFFERED, reason=reason, about=message.sha256))]
            return [SendChunk(sender, index) for index in sender.wanted(message)]
        if isinstance(message, Committed):
            sender = self._offers.pop(message.sha256, None)
            return [Delivered(sender.manifest)] if sender else []
        if isinstance(message, Refused):
            return self._on_refused(message)
        return []

    def on_chunk(self, payload: bytes, now: float) -> list[Effect]:
        """Take in a chunk. Chunks of contents that are not being fetched (late or repeated ones) are ignored.

        Raises:
            TransferError: it is no chunk, or contradicts its manifest; nothing changes.
            Any error of the fetch's buffer; the chunk counts as missing then.
        """
        chunk = decode_chunk(payload)
        fetch = self._fetches.get(chunk.sha256)
        if fetch is None:
            return []
        before = fetch.receiver.received
        pull = fetch.receiver.on_chunk(chunk)
        if fetch.receiver.received == before:
            return _send(pull)
        fetch.patience = self._patience
        fetch.retry_at = now + self._patience
        arrived: list[Effect] = [Arrived(fetch.receiver.manifest, chunk)] if self._keeping else []
        return [*arrived, *(self._finish(fetch, now) if fetch.receiver.done else _send(pull))]

    def tick(self, now: float) -> list[Effect]:
        """Pull again the contents that had no new chunk for too long, and end the fetches past their deadline.

        Raises:
            Any error of a fetch's buffer.
        """
        effects: list[Effect] = []
        for sha256, fetch in list(self._fetches.items()):
            receiver = fetch.receiver
            if now >= fetch.deadline:
                del self._fetches[sha256]
                late = DeadlineExceeded(
                    f"{receiver.manifest.name!r}: only {receiver.received} of {receiver.manifest.chunks} chunks came "
                    "in time. Check that the other side is online, or allow more time."
                )
                effects.append(Failed(receiver.manifest, late))
            elif now >= fetch.retry_at:
                fetch.patience = min(2 * fetch.patience, max(_MAX_PATIENCE, self._patience))
                fetch.retry_at = now + fetch.patience
                # All chunks are there if the buffer could not be read before.
                effects += self._finish(fetch, now) if receiver.done else _send(receiver.pull())
        return effects

    # --- inside -------------------------------------------------------------------------------------------------

    def _finish(self, fetch: _Fetch, now: float) -> list[Effect]:
        """Finish a fetch whose chunks are all there. If the hash is wrong, pull all of them again, a few times."""
        manifest = fetch.receiver.manifest
        try:
            received = Received(manifest, fetch.receiver.result())
        except TransferError as error:
            discarded: list[Effect] = [Discarded(manifest)] if self._keeping else []
            if fetch.attempt == ATTEMPTS:
                return [*discarded, *self.refuse(manifest.sha256, error), Failed(manifest, error)]
            fetch.attempt += 1
            fetch.retry_at = now + fetch.patience
            buffer = fetch.receiver.buffer
            fetch.receiver = Receiver(manifest, credit=self._credit, max_size=manifest.size, buffer=buffer)
            return [*discarded, *_send(fetch.receiver.pull())]
        del self._fetches[manifest.sha256]
        return [received]

    def _on_refused(self, refused: Refused) -> list[Effect]:
        """End a transfer that the peer gives up: as the receiver of our offer, or because it lacks what we fetch."""
        error = TransferError(f"The other side refused it ({refused.code}): {refused.reason}")
        offered = refused.code != NOT_OFFERED and refused.about in self._offers
        if offered:
            return [Failed(self._offers.pop(refused.about).manifest, error, by_peer=True)]
        fetch = self._fetches.pop(refused.about, None)
        return [Failed(fetch.receiver.manifest, error, by_peer=True)] if fetch else []


def _send(pull: Pull | None) -> list[Effect]:
    return [] if pull is None else [Send(pull)]
