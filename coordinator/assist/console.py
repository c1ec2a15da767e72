"""Events of a helper in words, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coordinator.telemetry import escaped


def describe(event: Mapping[str, Any]) -> str:
    """Return one event in words, as rich markup; empty for those that nobody needs to see."""
    e = escaped(event)
    match e["event"]:
        case "helper_started":
            return f"{e['helper']} draws for devices; a step takes {e['seconds']:.2f} s"
        case "helper_stopped":
            return "stopped"
        case "assist_queued":
            return f"{e['device']} asks; {e['waiting']} in all"
        case "assist_drawn":
            return f"{e['device']} gets {e['steps']} steps after {e['seconds']:.1f} s"
        case "assist_delivered":
            return f"{e['device']} has them"
        case "assist_ended":
            return f"{e['device']} gets nothing: {e['code']}"
        case "refused":
            return f"[yellow]refused[/yellow] {e['device']}: {e['code']}: {e['reason']}"
        case "broker_lost":
            return f"[red]no connection to the broker[/red]: {e['reason']}"
        case "broker_back":
            return "the broker is back"
        case "broker_refused" | "send_failed":
            return f"[red]not sent[/red]: {e['code']}: {e['reason']}"
    return ""
