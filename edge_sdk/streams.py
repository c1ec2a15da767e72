"""Terminals: text of any origin on those of any encoding, without useless log messages of libraries."""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Control characters, some of which drive a terminal, and lone surrogates, which stand for bytes of file names.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
# (logger, beginning of its message). All other messages of these loggers, errors and warnings alike, pass.
_NO_NEWS = (
    # Optimum comes in two distributions that belong together, and are asked for by name.
    ("diffusers.utils.import_utils", "Multiple distributions found for package"),
    ("transformers.utils.import_utils", "Multiple distributions found for package"),
    # Nothing here needs torchvision.
    ("torch.onnx._internal.exporter._registration", "torchvision is not installed"),
)


def printable(text: str) -> str:
    """The text with control characters and lone surrogates spelled out, as "\\x1b"."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def take_any_text() -> None:
    """Let standard output spell out characters that its encoding lacks, as Python does for the error output.

    Otherwise, in an ASCII locale, printing a name that is not ASCII would end a program whose work is done.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


@contextmanager
def without_chatter() -> Iterator[None]:
    """Drop the known useless messages of libraries inside. Nothing else changes."""
    filters = [(logging.getLogger(name), _Drop(beginning)) for name, beginning in _NO_NEWS]
    for logger, dropping in filters:
        logger.addFilter(dropping)
    try:
        yield
    finally:
        for logger, dropping in filters:
            logger.removeFilter(dropping)


class _Drop(logging.Filter):
    def __init__(self, beginning: str) -> None:
        super().__init__()
        self._beginning = beginning

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(self._beginning)
