"""Blobs named by the sha256 of their content: written whole and synced, or not at all; verified when read.

A missing or damaged blob is lost for good (BlobLost). A store that does not answer, or has no room, may recover
(StoreUnavailable), and the operation is to be retried. A single faulty answer is no loss: a blob is damaged if it reads
twice in the same wrong way, and missing if the list of all blobs lacks it, too.
"""

from __future__ import annotations

import errno
import hashlib
import re
import time
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import fsspec

from edge_sdk import durable
from edge_sdk.errors import BlobLost, ConfigurationError, HomeInUse, ImpastoError, StoreUnavailable, TransferError

_NAME = re.compile(r"[0-9a-f]{64}")
# Seconds before each reading of a blob; later ones are made only if an earlier one says that it is lost.
_PAUSES = (0.0, 0.02, 0.1, 0.5)
_OWNER = ".federation"  # contains the name of the federation that owns the blobs


class Blobs(Protocol):
    """A store of blobs. Any method may raise StoreUnavailable."""

    def put(self, data: bytes) -> str:
        """Store the data and return its sha256. When this returns, the data survives a power cut."""

    def get(self, sha256: str) -> bytes:
        """Return the data with that hash. Raises BlobLost if it is missing or damaged."""

    def prune(self, keep: Set[str]) -> int:
        """Delete all other blobs; return their number."""


class StoredBlobs(Blobs, Protocol):
    """A store of blobs on a disk, local or remote. Any method may raise StoreUnavailable."""

    def names(self) -> set[str]:
        """Return the hashes of all blobs."""

    def take(self, file: Path, sha256: str) -> None:
        """Store a file that is known to have that hash; the file is moved away. Raises OSError if it is missing."""

    def sweep(self) -> None:
        """Delete half-written files of a killed process. No other process may be writing."""

    def claim(self, federation: str) -> None:
        """Record the federation that owns the blobs. Raises HomeInUse if another one does."""


def open_blobs(url: str) -> StoredBlobs:
    """Open a blob store by path or URL: a folder, or any protocol of fsspec (s3://, gs://, memory://, …).

    Raises:
        ConfigurationError: the folder cannot be made, or fsspec has no such protocol.
    """
    try:
        if "://" not in url or url.startswith("file://"):
            return FolderBlobs(Path(url.removeprefix("file://")))
        return RemoteBlobs(url)
    except (OSError, ImportError, ValueError, StoreUnavailable) as error:
        raise ConfigurationError(f"Cannot open the blob store {url!r}: {error}. Correct `blobs`.") from error


class FolderBlobs:
    """A folder on the local disk. If it disappears, the next blob creates it again."""

    def __init__(self, folder: Path) -> None:
        durable.private_folder(folder)
        self._folder = folder

    def put(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        with self._working():
            durable.private_folder(self._folder)
            durable.write(self._folder / sha256, data, private=True)
        return sha256

    def take(self, file: Path, sha256: str) -> None:
        with self._working():
            durable.private_folder(self._folder)
        try:
            durable.move(file, self._folder / _checked(sha256))
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            if self.put(file.read_bytes()) != sha256:
                raise TransferError(f"{file} is not what it should be.") from error
            file.unlink()

    def get(self, sha256: str) -> bytes:
        return _confirmed(lambda: self._read(_checked(sha256)), self.names, sha256, str(self._folder))

    def _read(self, sha256: str) -> bytes | None:
        with self._working():
            try:
                return (self._folder / sha256).read_bytes()
            except FileNotFoundError:
                return None

    def names(self) -> set[str]:
        with self._working():
            return {path.name for path in self._files()}

    def prune(self, keep: Set[str]) -> int:
        with self._working():
            unwanted = [path for path in self._files() if path.name not in keep]
            for path in unwanted:
                path.unlink(missing_ok=True)
        return len(unwanted)

    def sweep(self) -> None:
        with self._working():
            for leftover in self._folder.glob(".*.tmp"):
                leftover.unlink(missing_ok=True)

    def claim(self, federation: str) -> None:
        with self._working():
            path = self._folder / _OWNER
            if path.exists():
                _check_owner(path.read_bytes(), federation, str(self._folder))
            else:
                durable.write(path, federation.encode(), private=True)

    def _files(self) -> list[Path]:
        try:
            return [path for path in self._folder.iterdir() if _NAME.fullmatch(path.name)]
        except FileNotFoundError:
            return []

    @contextmanager
    def _working(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _unavailable(str(self._folder), error) from error


class RemoteBlobs:
    """An object store through fsspec. Durability is the store's own: on S3 a finished upload is durable."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._fs: Any
        self._fs, root = fsspec.core.url_to_fs(url)
        self._root = str(root).rstrip("/")
        with self._working():
            self._fs.makedirs(self._root, exist_ok=True)

    def put(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        with self._working():  # an object appears only when it is complete
            self._fs.pipe_file(f"{self._root}/{sha256}", data)
        return sha256

    def take(self, file: Path, sha256: str) -> None:
        file.stat()  # a missing file is no fault of the store
        with self._working():
            self._fs.put_file(str(file), f"{self._root}/{_checked(sha256)}")
        file.unlink()

    def get(self, sha256: str) -> bytes:
        return _confirmed(lambda: self._read(_checked(sha256)), self.names, sha256, self._url)

    def _read(self, sha256: str) -> bytes | None:
        with self._working():
            try:
                data: bytes = self._fs.cat_file(f"{self._root}/{sha256}")
            except FileNotFoundError:
                return None
        return data

    def names(self) -> set[str]:
        with self._working():
            try:
                self._fs.invalidate_cache()
                paths = self._fs.ls(self._root, detail=False)
            except FileNotFoundError:
                return set()
        return {name for path in paths if _NAME.fullmatch(name := path.rsplit("/", 1)[-1])}

    def prune(self, keep: Set[str]) -> int:
        unwanted = self.names() - keep
        with self._working():
            for name in unwanted:
                self._fs.rm_file(f"{self._root}/{name}")
        return len(unwanted)

    def sweep(self) -> None:
        """Do nothing: objects appear whole or not at all."""

    def claim(self, federation: str) -> None:
        path = f"{self._root}/{_OWNER}"
        with self._working():
            try:
                owner = self._fs.cat_file(path)
            except FileNotFoundError:
                self._fs.pipe_file(path, federation.encode())
            else:
                _check_owner(owner, federation, self._url)

    @contextmanager
    def _working(self) -> Iterator[None]:
        try:
            yield
        except ImpastoError:
            raise
        except Exception as error:  # every store's client raises its own errors
            raise _unavailable(self._url, error) from error


class MemoryBlobs:
    """Blobs in the memory of this process, for simulations."""

    def __init__(self) -> None:
        self._data: dict[str, bytes] = {}
        self._owner = b""

    def put(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        self._data[sha256] = bytes(data)
        return sha256

    def get(self, sha256: str) -> bytes:
        found = self._data.get(_checked(sha256))
        if found is None:
            raise BlobLost(f"Blob {sha256[:12]}… is not in memory.", sha256)
        return found

    def names(self) -> set[str]:
        return set(self._data)

    def prune(self, keep: Set[str]) -> int:
        gone = self._data.keys() - keep
        for sha256 in gone:
            del self._data[sha256]
        return len(gone)

    def take(self, file: Path, sha256: str) -> None:
        self._data[_checked(sha256)] = file.read_bytes()
        file.unlink()

    def sweep(self) -> None:
        """Do nothing: blobs appear whole or not at all."""

    def claim(self, federation: str) -> None:
        _check_owner(self._owner, federation, "in memory")
        self._owner = federation.encode()


def _confirmed(read: Callable[[], bytes | None], names: Callable[[], Set[str]], sha256: str, place: str) -> bytes:
    """Return a blob; an answer that says it is lost has to be confirmed by another one.

    Args:
        read: returns the blob as it is found, None if it is not.
        names: returns the hashes of all blobs.
        sha256: its hash.
        place: the store, for errors.
    """
    found: set[bytes] = set()
    for pause in _PAUSES:
        time.sleep(pause)
        data = read()
        if data is None:
            if sha256 not in names():
                raise BlobLost(f"Blob {sha256[:12]}… is not in {place}: restore it from a backup.", sha256)
            continue
        if (digest := hashlib.sha256(data)).hexdigest() == sha256:
            return data
        if digest.digest() in found:
            raise BlobLost(
                f"Blob {sha256[:12]}… in {place} is damaged (another hash): restore it from a backup.", sha256
            )
        found.add(digest.digest())
    raise _unavailable(place, f"blob {sha256[:12]}… reads each time in another way")


def _unavailable(place: str, error: Exception | str) -> StoreUnavailable:
    reason = str(error) or type(error).__name__
    return StoreUnavailable(
        f"The blob store {place} cannot be used ({reason}): see whether its disk is full, is there, and may be written."
    )


def _check_owner(owner: bytes, federation: str, place: str) -> None:
    name = owner.decode("utf-8", "replace").strip()
    if name and name != federation:
        raise HomeInUse(
            f"The blob store {place} holds the adapters of federation {name[:100]!r}: each would delete the other's. "
            f"Give {federation!r} a `blobs` of its own."
        )


def _checked(sha256: str) -> str:
    if not _NAME.fullmatch(sha256):
        raise TransferError(f"{sha256[:80]!r} is no sha256.")
    return sha256
