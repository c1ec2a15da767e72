"""Blobs named by the sha256 of their content: written whole and synced, or not at all; checked when read."""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Set
from pathlib import Path
from typing import Any, Protocol

import fsspec

from edge_sdk import durable
from edge_sdk.errors import ConfigurationError, TransferError

_NAME = re.compile(r"[0-9a-f]{64}")


class Blobs(Protocol):
    def put(self, data: bytes) -> str:
        """Keep the data; when this returns, it survives a power cut. Returns its sha256."""

    def get(self, sha256: str) -> bytes:
        """The data of that hash. Raises TransferError if it is missing or damaged."""

    def prune(self, keep: Set[str]) -> int:
        """Delete all blobs but these; returns how many."""


class StoredBlobs(Blobs, Protocol):
    """On a disk, of this machine or of others."""

    def take(self, file: Path, sha256: str) -> None:
        """`put` for a file that is known to have that hash; the file is used up."""


def open_blobs(url: str) -> StoredBlobs:
    """A blob store by path or URL: a folder, or whatever fsspec knows (s3://, gs://, memory://, …).

    Raises:
        ConfigurationError: the folder cannot be made, or fsspec has no such protocol.
    """
    try:
        if "://" not in url or url.startswith("file://"):
            return FolderBlobs(Path(url.removeprefix("file://")))
        return RemoteBlobs(url)
    except (OSError, ImportError, ValueError) as error:
        raise ConfigurationError(f"Cannot open the blob store {url!r}: {error}. Correct `blobs`.") from error


class FolderBlobs:
    """A folder of the local disk."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        for leftover in folder.glob(".*.tmp"):  # of a process that was killed while writing
            leftover.unlink(missing_ok=True)

    def put(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        durable.write(self._folder / sha256, data, private=True)
        return sha256

    def take(self, file: Path, sha256: str) -> None:
        try:
            durable.move(file, self._folder / _checked(sha256))
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            if self.put(file.read_bytes()) != sha256:
                raise TransferError(f"{file} is not what it should be.") from error
            file.unlink()

    def get(self, sha256: str) -> bytes:
        try:
            data = (self._folder / _checked(sha256)).read_bytes()
        except OSError as error:
            raise TransferError(f"Blob {sha256[:12]}… is not in {self._folder}: {error}.") from error
        return _verified(data, sha256, str(self._folder))

    def prune(self, keep: Set[str]) -> int:
        unwanted = [path for path in self._folder.iterdir() if _NAME.fullmatch(path.name) and path.name not in keep]
        for path in unwanted:
            path.unlink(missing_ok=True)
        return len(unwanted)


class RemoteBlobs:
    """An object store through fsspec. Durability is the store's own: on S3 a finished upload is durable."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._fs: Any
        self._fs, root = fsspec.core.url_to_fs(url)
        self._root = str(root).rstrip("/")
        self._fs.makedirs(self._root, exist_ok=True)

    def put(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        self._fs.pipe_file(f"{self._root}/{sha256}", data)  # object stores show an object only when it is complete
        return sha256

    def take(self, file: Path, sha256: str) -> None:
        self._fs.put_file(str(file), f"{self._root}/{_checked(sha256)}")
        file.unlink()

    def get(self, sha256: str) -> bytes:
        try:
            data: bytes = self._fs.cat_file(f"{self._root}/{_checked(sha256)}")
        except OSError as error:
            raise TransferError(f"Blob {sha256[:12]}… is not in {self._url}: {error}.") from error
        return _verified(data, sha256, self._url)

    def prune(self, keep: Set[str]) -> int:
        names = {path.rsplit("/", 1)[-1] for path in self._fs.ls(self._root, detail=False)}
        unwanted = [name for name in names if _NAME.fullmatch(name) and name not in keep]
        for name in unwanted:
            self._fs.rm_file(f"{self._root}/{name}")
        return len(unwanted)


def _checked(sha256: str) -> str:
    if not _NAME.fullmatch(sha256):
        raise TransferError(f"{sha256[:80]!r} is no sha256.")
    return sha256


def _verified(data: bytes, sha256: str, place: str) -> bytes:
    if hashlib.sha256(data).hexdigest() != sha256:
        raise TransferError(f"Blob {sha256[:12]}… in {place} is damaged (another hash): restore it from a backup.")
    return data
