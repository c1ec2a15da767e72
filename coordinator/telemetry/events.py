"""What the coordinator tells people and programs: events as they happen, and every few seconds what there is."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from coordinator.rounds import State
from coordinator.telemetry.counters import Counters

OnEvent: TypeAlias = Callable[[dict[str, Any]], None]

STATUS_EVERY = 5.0  # seconds

_log = logging.getLogger(__name__)


class Reports:
    """Call it with an event's name and plain values, from any thread: events are told one at a time."""

    def __init__(self, on_event: OnEvent | None, counters: Counters) -> None:
        self._on_event = on_event
        self._counters = counters
        self._lock = threading.Lock()
        self._status: dict[str, Any] = {}
        self._due = 0.0

    def __call__(self, event: str, **values: Any) -> None:
        if self._on_event:
            with self._lock:
                self._on_event({"event": event, "time": time.time(), **values, "bytes": self._counters.totals})
        _log.debug("%s %s", event, values)

    def status(self, state: State, transfers: Mapping[str, int], *, last: bool = False) -> None:
        """Tell what there is, unless that was told a moment ago, or has not changed; the `last` time in any case."""
        now = time.monotonic()
        if now < self._due and not last:
            return
        self._due = now + STATUS_EVERY
        status = {
            "round": state.round,
            "phase": state.phase,
            "devices": _presence(state),
            "transfers": dict(transfers),
            "messages": self._counters.by_kind,
            "ignored": self._counters.ignored,
        }
        if last or status != self._status:
            self._status = status
            self("status", **status)


def _presence(state: State) -> dict[str, int]:
    """How many devices are there (or were a moment ago), offline, and have left."""
    now = time.monotonic()
    counts = Counter(
        "left" if d.left else "online" if d.is_near(now) and not d.away else "offline" for d in state.devices.values()
    )
    return {name: counts[name] for name in ("online", "offline", "left")}
