"""A graph on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

WEIGHTS = "model.onnx_data"


@dataclass(frozen=True)
class Graph:
    """A graph on disk, and its weights if they are in a file of their own, which graphs of one folder share.

    hashes: file name -> SHA-256 as the bundle states it, which identifies a preparation of the graph. A graph without
    hashes is never prepared.
    """

    path: Path
    hashes: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> list[Path]:
        """The graph's files that exist."""
        return [path for path in (self.path, self.path.with_name(WEIGHTS)) if path.is_file()]

    @property
    def maps(self) -> bool:
        """True if its weights are in a file of their own, from which they can be mapped instead of read."""
        return len(self.files) > 1

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.files)
