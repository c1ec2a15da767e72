"""Log messages of libraries that are of no use to anybody, dropped by their text while the libraries are imported."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

# (logger, beginning of its message). All other messages of these loggers, errors and warnings alike, pass.
_NO_NEWS = (
    # Optimum comes in two distributions that belong together, and are asked for by name.
    ("diffusers.utils.import_utils", "Multiple distributions found for package"),
    ("transformers.utils.import_utils", "Multiple distributions found for package"),
    # Nothing here needs torchvision.
    ("torch.onnx._internal.exporter._registration", "torchvision is not installed"),
)


class _Drop(logging.Filter):
    def __init__(self, beginning: str) -> None:
        super().__init__()
        self._beginning = beginning

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(self._beginning)


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
