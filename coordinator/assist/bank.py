"""The adapters that a helper draws with: those that the coordinator has published, or those of a folder.

An adapter is named by the hash of its file, so that device and helper mean the same one.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from coordinator.store import Blobs, Database
from edge_sdk import adapter as adapters
from edge_sdk.adapter import Adapter
from edge_sdk.errors import AdapterError, AdapterUnknown, BlobLost, ConfigurationError
from edge_sdk.inference.bundle import sha256_of

_KEPT = 16  # adapters in memory
_FRESH = 5.0  # seconds for which the list of published adapters holds


class Source(Protocol):
    """A place with the files of adapters."""

    def has(self, sha256: str, now: float) -> bool:
        """Return True if there is a file with this hash. now: seconds."""

    def read(self, sha256: str) -> bytes | None:
        """Return that file; None if it is lost."""


class Bank:
    """Adapters by the hash of their file, the last ones used in memory.

    Args:
        source: has the files.
        check: called with an adapter that was read; raises AdapterError if it does not fit the bundle.
    """

    def __init__(self, source: Source, check: Callable[[Adapter], None]) -> None:
        self._source = source
        self._check = check
        self._kept: OrderedDict[str, Adapter] = OrderedDict()

    def adapter(self, sha256: str, now: float) -> Adapter:
        """Return an adapter.

        Raises:
            AdapterUnknown: there is none, or it cannot be used with the bundle.
            StoreUnavailable: the store does not answer.
        """
        there = self._source.has(sha256, now)
        if sha256 not in self._kept or not there:
            self._kept.pop(sha256, None)
            data = self._source.read(sha256) if there else None
            if data is None:
                raise AdapterUnknown(
                    f"There is no adapter {sha256[:12]}… here: the federation has not published it, or has newer ones. "
                    "Join again for those."
                )
            try:
                found = adapters.from_bytes(data)
                self._check(found)
            except AdapterError as error:
                raise AdapterUnknown(f"The adapter {sha256[:12]}… cannot be used here: {error}") from error
            self._kept[sha256] = found
        self._kept.move_to_end(sha256)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return self._kept[sha256]


class Published:
    """The root and cluster adapters of a federation, as its coordinator has published them last.

    Args:
        database, blobs: the coordinator's stores.
    """

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs
        self._known: frozenset[str] = frozenset()
        self._due = float("-inf")

    def has(self, sha256: str, now: float) -> bool:
        """Return True for an adapter that the coordinator has published last."""
        if now >= self._due:
            state = self._database.load()
            lineages = (state.root, *state.clusters.values())
            self._known = frozenset(manifest.sha256 for lineage in lineages for manifest in lineage.adapters)
            self._due = now + _FRESH
        return sha256 in self._known

    def read(self, sha256: str) -> bytes | None:
        """Return the file; None if the store has lost it."""
        try:
            return self._blobs.get(sha256)
        except BlobLost:
            return None


class Folder:
    """The adapters in a folder and its sub-folders, as they are at the start.

    Raises (on opening):
        ConfigurationError: there are none.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._files = {sha256_of(path): path for path in sorted(folder.rglob("*.safetensors"))}
        except OSError as error:
            raise ConfigurationError(f"Cannot read the adapters in {folder}: {error}. Correct --adapters.") from error
        if not self._files:
            raise ConfigurationError(f"There is no .safetensors file in {folder}: correct --adapters, or leave it out.")

    def has(self, sha256: str, now: float) -> bool:
        """Return True for an adapter that was there at the start."""
        return sha256 in self._files

    def read(self, sha256: str) -> bytes | None:
        """Return the file; None if it was changed or deleted since the start."""
        try:
            data = self._files[sha256].read_bytes()
        except OSError:
            return None
        return data if hashlib.sha256(data).hexdigest() == sha256 else None
