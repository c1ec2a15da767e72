"""Events of the coordinator, for people and programs: each as it happens, and a status every few seconds."""

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
    """Reports an event by its name and plain values, from any thread, one at a time.

    Args:
        on_event: called with every event; None: nobody listens.
        counters: their totals are added to every event.
    """

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
        """Report the status, unless that was done a moment ago or nothing has changed; with `last`, in any case."""
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
    """Return the numbers of devices that are online (or were a moment ago), are offline, and have left."""
    now = time.monotonic()
    counts = Counter(
        "left" if d.left else "online" if d.is_near(now) and not d.away else "offline" for d in state.devices.values()
    )
    return {name: counts[name] for name in ("online", "offline", "left")}
