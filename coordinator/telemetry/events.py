"""Events of the coordinator, for people and programs: each as it happens, and a status every few seconds."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, TypeAlias

from coordinator.rounds import State
from coordinator.telemetry.counters import Counters
from edge_sdk.errors import ConfigurationError

OnEvent: TypeAlias = Callable[[dict[str, Any]], None]

STATUS_EVERY = 5.0  # seconds
# Seconds after which an observer that goes on failing is logged again.
_TELL_AGAIN = 60.0

_log = logging.getLogger(__name__)


class Observers:
    """Calls several observers of events, each with every event. One that fails costs its own events only.

    It is called again with the next event. Its first failure, and then one a minute, is logged with its traceback.

    Args:
        observers: the observers.
        warn: called with the reason of each failure that is logged; None: nobody.

    Raises (by the first event only):
        ConfigurationError: an observer cannot do its work with its settings.
    """

    def __init__(self, observers: Iterable[OnEvent], warn: Callable[[str], None] | None = None) -> None:
        self._observers = list(observers)
        self._warn = warn
        self._began = False
        self._told: dict[int, float] = {}

    def __call__(self, event: dict[str, Any]) -> None:
        for number, observe in enumerate(self._observers):
            self._call(number, observe, event)
        self._began = True

    def _call(self, number: int, observe: OnEvent, event: dict[str, Any]) -> None:
        try:
            observe(event)
        except Exception as error:
            if isinstance(error, ConfigurationError) and not self._began:
                raise
            now = time.monotonic()
            if now - self._told.get(number, float("-inf")) < _TELL_AGAIN:
                return
            self._told[number] = now
            reason = f"{type(error).__name__}: {error}"
            said = f"An observer of events has failed at {event['event']}, and misses it ({reason})."
            _log.error("%s", said, exc_info=True)
            if self._warn:
                with suppress(OSError):
                    self._warn(said)


class Reports:
    """Reports an event by its name and plain values, from any thread, one at a time.

    Args:
        on_event: called with every event, as one of `Observers`; None: nobody listens.
        counters: their totals are added to every event.
    """

    def __init__(self, on_event: OnEvent | None, counters: Counters) -> None:
        self._on_event = Observers([on_event]) if on_event else None
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
