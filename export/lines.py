"""Text files with one text a line, in blocks: prompts, captions."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path


def read_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 file without white space around them; empty lines are left out.

    Raises:
        OSError, UnicodeDecodeError: the file cannot be read.
    """
    return [line for block in read_blocks(path) for line in block]


def read_blocks(path: Path) -> list[list[str]]:
    """Return the same lines in blocks, between which are empty lines.

    Raises:
        OSError, UnicodeDecodeError: the file cannot be read.
    """
    # Not splitlines, which also breaks at U+2028 and others.
    lines = [line.strip() for line in path.read_text("utf-8-sig").split("\n")]
    return [list(block) for full, block in groupby(lines, key=bool) if full]
