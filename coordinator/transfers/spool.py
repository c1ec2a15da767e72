"""Unfinished updates on disk, so that a restart pulls only the missing chunks.

Each device's update has one file: its content with every chunk in its place, then the chunk size and one bit for each
chunk that is there. A file that ends with its content is complete. These are files and not a database, because one
thread writes here for all devices, and because a complete update becomes a blob by renaming. Nothing is synced before:
killing the process loses no chunk, and after a power cut the hash of the whole shows if the content is intact. If it is
not, the whole update is pulled again.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Collection, Container
from pathlib import Path

from edge_sdk import durable
from edge_sdk.errors import ConfigurationError
from edge_sdk.wire import Data, Manifest

_HEAD = 4  # bytes of the chunks' size
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\.[0-9a-f]{64}")


class Spool:
    """The unfinished updates in a folder, one for each device; `close` it.

    Raises (on opening):
        ConfigurationError: the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[Path, SpoolFile] = {}
        try:
            durable.private_folder(folder)
        except OSError as error:
            raise ConfigurationError(f"Cannot use {folder} for unfinished updates: {error}. Correct `home`.") from error

    def open(self, device: str, manifest: Manifest) -> tuple[bytes, SpoolFile]:
        """Open the file of an update to pull; return the bitmap of its earlier chunks, and the file.

        The content of another update of this device is dropped.

        Raises:
            OSError: the folder cannot be read or written.
        """
        durable.private_folder(self._folder)  # it may have disappeared
        path = self._path(device, manifest.sha256)
        for other in self._folder.glob(f"{device}.*"):
            if other != path and _NAME.fullmatch(other.name) and _device_of(other) == device:
                self._remove(other)
        self._close(path)
        file = self._open[path] = SpoolFile(path, manifest)
        return file.have, file

    def mark(self, device: str, sha256: str, chunk: int) -> None:
        """Mark a chunk of the update that is being pulled from a device as written.

        Raises:
            OSError: the mark cannot be written.
        """
        if file := self._open.get(self._path(device, sha256)):
            file.mark(chunk)

    def empty(self, device: str, sha256: str) -> None:
        """Unmark all chunks, because the content is not the expected one.

        Raises:
            OSError: the marks cannot be written.
        """
        if file := self._open.get(self._path(device, sha256)):
            file.empty()

    def rest(self, device: str, sha256: str) -> None:
        """Close an update that is no longer being pulled; its content stays."""
        self._close(self._path(device, sha256))

    def drop(self, device: str, sha256: str) -> None:
        """Delete an update that is stored elsewhere or cannot be used."""
        self._remove(self._path(device, sha256))

    def forget(self, device: str) -> None:
        """Delete all updates of a device."""
        self._remove_all(lambda other: other == device)

    def keep_only(self, devices: Container[str]) -> None:
        """Delete the updates of all other devices."""
        self._remove_all(lambda other: other not in devices)

    def prune(self, keep: Collection[tuple[str, str]] = ()) -> None:
        """Delete all updates but these, by device and hash."""
        wanted = {self._path(*transfer) for transfer in keep}
        for path in self._folder.glob("*"):  # none if the folder is gone
            if path not in wanted and _NAME.fullmatch(path.name):
                self._remove(path)

    def whole(self, device: str, manifest: Manifest) -> Path:
        """Return the file of a complete update, cut to its content. It may be moved away; nothing writes to it.

        Raises:
            OSError: the file is missing.
        """
        path = self._path(device, manifest.sha256)
        self._close(path)
        os.truncate(path, manifest.size)
        return path

    def close(self) -> None:
        """Close all files; their content stays."""
        for path in list(self._open):
            self._close(path)

    def _path(self, device: str, sha256: str) -> Path:
        return self._folder / f"{device}.{sha256}"

    def _close(self, path: Path) -> None:
        if file := self._open.pop(path, None):
            file.close()

    def _remove_all(self, gone: Callable[[str], bool]) -> None:
        for path in self._folder.glob("*"):
            if _NAME.fullmatch(path.name) and gone(_device_of(path)):
                self._remove(path)

    def _remove(self, path: Path) -> None:
        self._close(path)
        path.unlink(missing_ok=True)


class SpoolFile:
    """The file of one update, as the `Buffer` of its transfer. Not usable once it is closed.

    Attributes:
        have: bitmap of the chunks that were there when it was opened.

    Raises (all methods):
        OSError: the file cannot be read or written.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self._size = manifest.size
        length = -(-manifest.chunks // 8)
        head = manifest.chunk_size.to_bytes(_HEAD, "little")
        path.touch(0o600)
        self._file = path.open("r+b", buffering=0)
        try:
            tail = self._tail(length)
            if tail is None:
                self._bits = bytearray(((1 << manifest.chunks) - 1).to_bytes(length, "little"))
                self.write(self._size, head + self._bits)
            elif len(tail) == _HEAD + length and tail.startswith(head):
                self._bits = bytearray(tail[_HEAD:])
            else:
                self._bits = bytearray(length)
                self._file.truncate(0)
                self.write(self._size, head + self._bits)
        except BaseException:
            self._file.close()
            raise
        self.have = bytes(self._bits)

    def _tail(self, length: int) -> bytes | None:
        """Return the bytes behind the content.

        None if the file ends there, so that it is complete; empty if it has another length.
        """
        end = self._file.seek(0, os.SEEK_END)
        if end == self._size:
            return None
        self._file.seek(self._size)
        return self._file.read(_HEAD + length) if end == self._size + _HEAD + length else b""

    def __len__(self) -> int:
        return self._size

    def write(self, start: int, data: Data) -> None:
        self._seek(start)
        if self._file.write(data) != len(data):  # the disk is full
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def read(self) -> bytes:
        self._seek(0)
        return self._file.read(self._size)

    def mark(self, chunk: int) -> None:
        """Mark a chunk as written."""
        byte = chunk // 8
        self._bits[byte] |= 1 << chunk % 8
        self.write(self._size + _HEAD + byte, self._bits[byte : byte + 1])

    def empty(self) -> None:
        """Unmark all chunks."""
        self._bits = bytearray(len(self._bits))
        self.write(self._size + _HEAD, self._bits)

    def close(self) -> None:
        """Close the file. May be repeated."""
        self._file.close()

    def _seek(self, start: int) -> None:
        if self._file.closed:  # otherwise a ValueError, which callers do not expect of a disk
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        self._file.seek(start)


def _device_of(path: Path) -> str:
    return path.name.rpartition(".")[0]
