"""Manners of dependencies: their telemetry is switched off, and their useless log messages are dropped."""

from __future__ import annotations

from edge_sdk.libraries.chatter import without_chatter
from edge_sdk.libraries.telemetry import SETTINGS, TelemetryWarning, switch_off

__all__ = ["SETTINGS", "TelemetryWarning", "switch_off", "without_chatter"]
