"""Telemetry of the coordinator, for people and programs: events, counters, a console, metrics for Prometheus."""

from __future__ import annotations

from coordinator.telemetry.broker import look
from coordinator.telemetry.console import Narrator, describe, escaped, print_status, print_waiting, show_bytes
from coordinator.telemetry.counters import (
    CHUNK,
    CLEARING,
    INVALID,
    REPEATED_CHUNK,
    REPEATED_HELLO,
    STALE_COORDINATOR,
    STALE_PRESENCE,
    STRANGERS_LEAVE,
    STRANGERS_PRESENCE,
    STRANGERS_TRANSFER,
    UNASKED_CHUNK,
    Counters,
)
from coordinator.telemetry.event_file import EventFile
from coordinator.telemetry.events import Observers, OnEvent, Reports
from coordinator.telemetry.prometheus import Exposition, Metrics
from coordinator.telemetry.reminders import Reminders
from coordinator.telemetry.troubles import Troubles

__all__ = [
    "CHUNK",
    "CLEARING",
    "INVALID",
    "REPEATED_CHUNK",
    "REPEATED_HELLO",
    "STALE_COORDINATOR",
    "STALE_PRESENCE",
    "STRANGERS_LEAVE",
    "STRANGERS_PRESENCE",
    "STRANGERS_TRANSFER",
    "UNASKED_CHUNK",
    "Counters",
    "EventFile",
    "Exposition",
    "Metrics",
    "Narrator",
    "Observers",
    "OnEvent",
    "Reminders",
    "Reports",
    "Troubles",
    "describe",
    "escaped",
    "look",
    "print_status",
    "print_waiting",
    "show_bytes",
]
