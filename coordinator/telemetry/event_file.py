"""Events as lines of JSON in a file. If its disk fills up, the federation goes on, and the file records the gap."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from edge_sdk.errors import ConfigurationError


class EventFile:
    """Appends events to a file. Use it as a context manager; pass its `tell` to a Service as `on_event`.

    Args:
        path: the file; its content stays.
        warn: called with the reason when a write fails, once until a write succeeds again.

    Raises (on opening, and by the first event):
        ConfigurationError: the file cannot be written.
    """

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        self._path = path
        self._warn = warn
        self._missed = 0
        self._works = False
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise self._unusable(error) from error

    def tell(self, event: Mapping[str, Any]) -> None:
        """Append an event; an event that cannot be written is counted as missed."""
        try:
            if self._missed:
                self._append({"event": "events_missed", "time": time.time(), "count": self._missed})
                self._missed = 0
            self._append(event)
            self._works = True
        except OSError as error:
            if not self._works:
                raise self._unusable(error) from error
            if not self._missed:
                self._warn(f"Events are missing from {self._path} from now on: {error}. Make room on its disk.")
            self._missed += 1

    def _append(self, event: Mapping[str, Any]) -> None:
        line = json.dumps(event).encode() + b"\n"
        written = self._file.write(line)
        if written != len(line):  # the disk is full
            with suppress(OSError):
                self._file.truncate(os.fstat(self._file.fileno()).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _unusable(self, error: OSError) -> ConfigurationError:
        return ConfigurationError(f"Cannot write events to {self._path}: {error}. Choose another --events file.")

    def __enter__(self) -> EventFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
