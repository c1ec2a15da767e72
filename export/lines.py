"""Text files with one text a line: prompts, captions."""

from __future__ import annotations

from pathlib import Path


def read_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 file without white space around them; empty lines are left out.

    Raises:
        OSError, UnicodeDecodeError: the file cannot be read.
    """
    # Not splitlines, which also breaks at U+2028 and others.
    lines = path.read_text("utf-8-sig").split("\n")
    return [line.strip() for line in lines if line.strip()]
