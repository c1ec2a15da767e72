"""Log messages of libraries that are of no use to anybody, dropped by their text while the libraries are imported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logging import LogRecord

# (logger, beginning of its message). All other messages of these loggers, errors and warnings alike, pass.
_NO_NEWS = (
    # Optimum comes in two distributions that belong together, and are asked for by name.
    ("diffusers.utils.import_utils", "Multiple distributions found for package"),
    ("transformers.utils.import_utils", "Multiple distributions found for package"),
    # Nothing here needs torchvision.
    ("torch.onnx._internal.exporter._registration", "torchvision is not installed"),
)


def _is_news(beginning: str, record: LogRecord) -> bool:
    return not record.getMessage().startswith(beginning)


@contextmanager
def without_chatter() -> Iterator[None]:
    """Drop the known useless messages of libraries inside. Nothing else changes."""
    import logging  # here, as importing the SDK should cost nothing

    filters = [(logging.getLogger(name), partial(_is_news, beginning)) for name, beginning in _NO_NEWS]
    for logger, dropping in filters:
        logger.addFilter(dropping)
    try:
        yield
    finally:
        for logger, dropping in filters:
            logger.removeFilter(dropping)
