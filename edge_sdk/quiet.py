"""Libraries that talk while they are imported: what is no news to anybody is kept from the terminal, by its text."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

# (logger, how its message begins). All else that these loggers say, errors and warnings alike, is let through.
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
    """Inside, what libraries are known to say to no use is dropped. Nothing else changes."""
    filters = [(logging.getLogger(name), _Drop(beginning)) for name, beginning in _NO_NEWS]
    for logger, dropping in filters:
        logger.addFilter(dropping)
    try:
        yield
    finally:
        for logger, dropping in filters:
            logger.removeFilter(dropping)
