"""Stand-ins for a system's own files, such as those of /sys and /proc."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def tree(folder: Path, files: Mapping[str, str]) -> Path:
    """Write a line into each file, by its name in the folder; return the folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", "utf-8")
    return folder
