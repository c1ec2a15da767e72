"""Printing text of any origin on terminals of any encoding."""

from __future__ import annotations

import io
import re
import sys

# Control characters, some of which drive a terminal, and lone surrogates, which stand for bytes of file names.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with control characters and lone surrogates spelled out, as "\\x1b"."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def take_any_text() -> None:
    """Let standard output spell out characters that its encoding lacks, as Python does for the error output.

    Otherwise, in an ASCII locale, printing a name that is not ASCII would end a program whose work is done.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
