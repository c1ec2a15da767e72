"""One transfer, as two state machines without I/O: the receiver pulls chunks, the sender answers.

A chunk on the wire is the 32-byte SHA-256 of the whole content, the chunk's index as a little-endian uint32, then the
bytes from `index * chunk_size` on. The sender keeps no state between pulls. The receiver keeps only a bitmap and the
bytes that it has: chunks may come in any order, twice or never, and a transfer resumes from the bitmap.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from dataclasses import dataclass
from typing import Protocol

from msgspec.structs import replace

from edge_sdk.errors import PayloadTooLarge, TransferError
from edge_sdk.wire.messages import CHUNK_HEADER, MAX_CHUNK, MAX_CHUNKS, MAX_CREDIT, MIN_CHUNK, Manifest, Pull, Role

DEFAULT_CHUNK = MAX_CHUNK - CHUNK_HEADER
LEAST_PAYLOAD = 4096  # bytes that a broker must let through: a message that starts a round does not fit into less
DEFAULT_CREDIT = 32
DEFAULT_MAX_SIZE = 256 << 20

_HEADER = struct.Struct("<32sI")
assert _HEADER.size == CHUNK_HEADER

Data = bytes | bytearray | memoryview | mmap.mmap


@dataclass(frozen=True)
class Chunk:
    """A decoded chunk: the hash of its content, its index, its bytes."""

    sha256: str
    index: int
    data: memoryview


def encode_chunk(sha256: str, index: int, data: Data) -> bytes:
    """The payload of one chunk."""
    return _HEADER.pack(bytes.fromhex(sha256), index) + data


def decode_chunk(payload: bytes) -> Chunk:
    """Decode a chunk's payload, without copying its bytes.

    Raises:
        TransferError: the payload is too short or too long for a chunk.
    """
    if not CHUNK_HEADER < len(payload) <= MAX_CHUNK:
        raise TransferError(f"A chunk of {len(payload)} bytes: expected {CHUNK_HEADER + 1} to {MAX_CHUNK}.")
    digest, index = _HEADER.unpack_from(payload)
    return Chunk(digest.hex(), index, memoryview(payload)[CHUNK_HEADER:])


def make_manifest(data: Data, role: Role, name: str, chunk_size: int = DEFAULT_CHUNK) -> Manifest:
    """The manifest that describes `data`.

    Raises:
        TransferError: the data is empty or too large for a transfer, or the size of chunks is not allowed.
    """
    if not 0 < len(data) < 2**31:
        raise TransferError(f"A transfer has 1 to {2**31 - 1} bytes, not {len(data)}.")
    if not MIN_CHUNK <= chunk_size <= DEFAULT_CHUNK or len(data) > chunk_size * MAX_CHUNKS:
        raise TransferError(
            f"Chunks of {chunk_size} bytes do not suit {len(data)} bytes: choose {MIN_CHUNK} to {DEFAULT_CHUNK}, "
            f"and at most {MAX_CHUNKS} chunks."
        )
    sha256 = hashlib.sha256(data).hexdigest()
    return Manifest(role=role, name=name, sha256=sha256, size=len(data), chunk_size=chunk_size)


def fitting_chunk(max_payload: int) -> int:
    """Largest size of chunks that fit payloads of at most so many bytes; MIN_CHUNK if none does."""
    return max(MIN_CHUNK, min(DEFAULT_CHUNK, max_payload - CHUNK_HEADER))


def check_room(max_payload: int, message: int = 0) -> None:
    """Check that a broker's limit is large enough for a federation, and for a message of so many bytes.

    Raises:
        PayloadTooLarge: it is not; the message says what to change at the broker.
    """
    raise_it = "raise the broker's largest packet (`max_packet_size 135168` in mosquitto.conf, or its like)."
    if max_payload < LEAST_PAYLOAD:
        raise PayloadTooLarge(
            f"The broker lets {max_payload} bytes through, and a federation needs at least {LEAST_PAYLOAD}: {raise_it}"
        )
    if message > max_payload:
        raise PayloadTooLarge(
            f"Joining takes a message of {message} bytes, and the broker lets {max_payload} through: {raise_it}"
        )


def refitted(manifest: Manifest, chunk_size: int) -> Manifest:
    """The manifest of the same content with chunks of at most that size."""
    return manifest if manifest.chunk_size <= chunk_size else replace(manifest, chunk_size=chunk_size)


class Sender:
    """Answers the pulls for one content. Give an `mmap` for a content that should not be in memory."""

    def __init__(self, data: Data, manifest: Manifest) -> None:
        if len(data) != manifest.size:
            raise TransferError(
                f"The data of {manifest.name!r} has {len(data)} bytes, its manifest says {manifest.size}."
            )
        self.manifest = manifest
        self._data = data

    def on_pull(self, pull: Pull) -> list[bytes]:
        """The payloads to publish now, at most `pull.credit`; raises as `wanted`."""
        return [self.chunk(index) for index in self.wanted(pull)]

    def wanted(self, pull: Pull) -> list[int]:
        """The chunks to publish now, at most `pull.credit`.

        Raises:
            TransferError: the pull is for another content, or for chunks that do not exist.
        """
        if pull.sha256 != self.manifest.sha256:
            raise TransferError(f"A pull for {pull.sha256[:12]}… instead of {self.manifest.sha256[:12]}….")
        wanted = _indices(pull.missing, min(pull.credit, MAX_CREDIT))
        count = self.manifest.chunks
        if int.from_bytes(pull.missing, "little") >> count:
            raise TransferError(f"A pull for chunks beyond the {count} of {self.manifest.name!r}.")
        return wanted

    def chunk(self, index: int) -> bytes:
        """The payload of a chunk."""
        size = self.manifest.chunk_size
        return encode_chunk(self.manifest.sha256, index, self._data[index * size : (index + 1) * size])


class Buffer(Protocol):
    """A place in which a content is put together."""

    def __len__(self) -> int: ...

    def write(self, start: int, data: Data) -> None:
        """Write bytes at an offset."""

    def read(self) -> bytes:
        """The whole content."""


class MemoryBuffer:
    """A buffer in memory.

    Args:
        data: bytes of the content's size, which the buffer takes over.
    """

    def __init__(self, data: bytearray) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def write(self, start: int, data: Data) -> None:
        self._data[start : start + len(data)] = data

    def read(self) -> bytes:
        return bytes(self._data)


class Receiver:
    """Collects the chunks of one content.

    Args:
        manifest: what to receive.
        max_size: largest size in bytes; larger manifests are refused before any memory is taken.
        credit: number of chunks that may be under way at once, 1 to 64.
        have: bitmap of the chunks that `buffer` already holds, to resume.
        buffer: the place for the content, `manifest.size` long; None takes memory.

    Raises:
        TransferError: the content is larger than `max_size`, or `buffer` has another size.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        max_size: int = DEFAULT_MAX_SIZE,
        credit: int = DEFAULT_CREDIT,
        have: bytes = b"",
        buffer: Buffer | None = None,
    ) -> None:
        if manifest.size > max_size:
            raise TransferError(
                f"{manifest.name!r} would take {manifest.size} bytes, more than the {max_size} accepted here."
            )
        if (buffer is not None and len(buffer) != manifest.size) or (have and buffer is None):
            raise TransferError(f"Cannot resume {manifest.name!r}: its buffer is missing or of another size.")
        if not 1 <= credit <= MAX_CREDIT:
            raise ValueError(f"credit must be 1 to {MAX_CREDIT}")
        self.manifest = manifest
        self._credit = credit
        self._missing = ((1 << manifest.chunks) - 1) & ~int.from_bytes(have, "little")
        self._requested = 0
        self._left = self._missing.bit_count()
        self._buffer = MemoryBuffer(bytearray(manifest.size)) if buffer is None else buffer

    @property
    def done(self) -> bool:
        """True if every chunk has come; `result` then checks them."""
        return not self._left

    @property
    def received(self) -> int:
        """Number of chunks that have come, of `manifest.chunks`."""
        return self.manifest.chunks - self._left

    @property
    def bitmap(self) -> bytes:
        """Bitmap of the chunks that have come; together with `buffer`, it is enough to resume."""
        held = ((1 << self.manifest.chunks) - 1) & ~self._missing
        return held.to_bytes(-(-self.manifest.chunks // 8), "little")

    @property
    def buffer(self) -> Buffer:
        return self._buffer

    def pull(self) -> Pull | None:
        """Return a pull for a whole window, as if nothing were under way: at the start, and after a silence.

        None if nothing is missing.
        """
        self._requested = 0
        return self._next_pull()

    def on_chunk(self, chunk: Chunk | bytes) -> Pull | None:
        """Take a chunk in; a repeated one is ignored. Returns the next pull, if it is time for one.

        Raises:
            TransferError: the chunk is of another transfer, or has a wrong index or length; nothing changes.
            Any error of the buffer; the chunk counts as missing then.
        """
        chunk = chunk if isinstance(chunk, Chunk) else decode_chunk(chunk)
        index, data, manifest = chunk.index, chunk.data, self.manifest
        if chunk.sha256 != manifest.sha256:
            raise TransferError(f"A chunk of {chunk.sha256[:12]}… came instead of {manifest.sha256[:12]}….")
        if index >= manifest.chunks:
            raise TransferError(f"Chunk {index} of {manifest.name!r}, which has only {manifest.chunks}.")
        start = index * manifest.chunk_size
        expected = min(manifest.chunk_size, manifest.size - start)
        if len(data) != expected:
            raise TransferError(f"Chunk {index} of {manifest.name!r} has {len(data)} bytes instead of {expected}.")
        bit = 1 << index
        if not self._missing & bit:
            return None
        self._buffer.write(start, data)
        self._missing &= ~bit
        self._requested &= ~bit
        self._left -= 1
        # Ask again when half of the window is used up, so that the sender never runs dry.
        return self._next_pull() if self._requested.bit_count() <= self._credit // 2 else None

    def result(self) -> bytes:
        """The whole content.

        Raises:
            TransferError: chunks are missing, or the content does not match the manifest.
        """
        if not self.done:
            raise TransferError(f"{self.manifest.name!r}: {self._left} of {self.manifest.chunks} chunks are missing.")
        data = self._buffer.read()
        if hashlib.sha256(data).hexdigest() != self.manifest.sha256:
            raise TransferError(f"{self.manifest.name!r} came whole, but its hash is not the one in its manifest.")
        return data

    def _next_pull(self) -> Pull | None:
        room = self._credit - self._requested.bit_count()
        wanted = _lowest_bits(self._missing & ~self._requested, room)
        if not wanted:
            return None
        self._requested |= wanted
        missing = wanted.to_bytes(-(-wanted.bit_length() // 8), "little")
        return Pull(sha256=self.manifest.sha256, missing=missing, credit=wanted.bit_count())


def _lowest_bits(bits: int, count: int) -> int:
    chosen = 0
    while bits and count > 0:
        lowest = bits & -bits
        chosen |= lowest
        bits ^= lowest
        count -= 1
    return chosen


def _indices(bitmap: bytes, count: int) -> list[int]:
    """The positions of the `count` lowest bits that are set."""
    found: list[int] = []
    bits = _lowest_bits(int.from_bytes(bitmap, "little"), count)
    while bits:
        lowest = bits & -bits
        found.append(lowest.bit_length() - 1)
        bits ^= lowest
    return found
