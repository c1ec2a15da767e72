"""Persistent storage of the coordinator: a database for facts, a blob store for adapters."""

from __future__ import annotations

from coordinator.store.backoff import Backoff
from coordinator.store.blobs import Blobs, MemoryBlobs, StoredBlobs, open_blobs
from coordinator.store.database import Database, newly_counted, newly_summed
from coordinator.store.sketches import MemorySketches, SketchStore

__all__ = [
    "Backoff",
    "Blobs",
    "Database",
    "MemoryBlobs",
    "MemorySketches",
    "SketchStore",
    "StoredBlobs",
    "newly_counted",
    "newly_summed",
    "open_blobs",
]
