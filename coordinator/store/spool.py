"""Updates that have not come whole yet: their chunks on disk, so that a restart pulls only the others.

One file for each device's update, with the chunks one after the other as they came. A file and not a database, because
one thread writes here for all devices. Nothing is synced: killing the process loses no chunk, and after a power cut the
hash of the whole tells whether what is left is true. If it is not, all of it is dropped and pulled anew.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from edge_sdk.errors import ConfigurationError
from edge_sdk.wire.messages import CHUNK_HEADER, Manifest
from edge_sdk.wire.transfer import Chunk, Data, decode_chunk, encode_chunk

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\.[0-9a-f]{64}")


class Spool:
    """The unfinished updates in a folder, one a device.

    Raises (on opening):
        ConfigurationError: the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"Cannot use {folder} for unfinished updates: {error}. Correct `home`.") from error

    def resume(self, device: str, manifest: Manifest) -> tuple[bytes, bytearray] | None:
        """An update is about to be pulled: the bitmap of the chunks that came before and a buffer with them in their
        places; None if there are none. What there was of another update of this device is dropped.

        Raises:
            OSError: the folder cannot be read or written.
        """
        path = self._path(device, manifest.sha256)
        for other in self._folder.glob(f"{device}.*"):
            if other != path and _NAME.fullmatch(other.name) and _device_of(other) == device:
                other.unlink(missing_ok=True)
        if not path.is_file():
            return None
        have, buffer, whole = 0, bytearray(manifest.size), 0
        with path.open("r+b") as file:
            while chunk := _read(file.read(CHUNK_HEADER + manifest.chunk_size), manifest):
                start = chunk.index * manifest.chunk_size
                buffer[start : start + len(chunk.data)] = chunk.data
                have |= 1 << chunk.index
                whole += CHUNK_HEADER + manifest.chunk_size
                if chunk.index == manifest.chunks - 1:  # the only one that may be shorter
                    whole += len(chunk.data) - manifest.chunk_size
                file.seek(whole)
            file.truncate(whole)  # a chunk that was being written when the power failed
        return (have.to_bytes(-(-manifest.chunks // 8), "little"), buffer) if have else None

    def keep(self, device: str, chunk: Chunk) -> None:
        """Append a chunk of the update that is being pulled from a device.

        Raises:
            OSError: it cannot be written.
        """
        with self._path(device, chunk.sha256).open("ab", buffering=0) as file:
            file.write(encode_chunk(chunk.sha256, chunk.index, chunk.data))

    def drop(self, device: str, sha256: str) -> None:
        """The update is stored elsewhere, or cannot be used."""
        self._path(device, sha256).unlink(missing_ok=True)

    def prune(self, keep: Collection[tuple[str, str]] = ()) -> None:
        """Drop all updates but these, by device and hash."""
        wanted = {self._path(*of) for of in keep}
        for path in self._folder.iterdir():
            if path not in wanted and _NAME.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def _path(self, device: str, sha256: str) -> Path:
        return self._folder / f"{device}.{sha256}"


def _device_of(path: Path) -> str:
    return path.name.rpartition(".")[0]


def _read(record: Data, manifest: Manifest) -> Chunk | None:
    """The chunk that a record begins with, None if it is not whole or none of this update."""
    if len(record) <= CHUNK_HEADER:
        return None
    chunk = decode_chunk(bytes(record))
    if chunk.sha256 != manifest.sha256 or chunk.index >= manifest.chunks:
        return None
    size = min(manifest.chunk_size, manifest.size - chunk.index * manifest.chunk_size)
    return Chunk(chunk.sha256, chunk.index, chunk.data[:size]) if len(chunk.data) >= size else None
