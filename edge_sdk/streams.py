"""What is printed: text of whatever origin, on terminals of whatever encoding."""

from __future__ import annotations

import io
import re
import sys

# Control characters, of which some drive a terminal, and halves of characters, which stand for bytes of file names.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with what a terminal would obey, or no encoding knows, spelled out as "\\x1b"."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def take_any_text() -> None:
    """Let standard output spell out what its encoding lacks, as Python lets the error output do.

    Otherwise a name that is not ASCII ends a program whose work is done, where the locale says ASCII.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
