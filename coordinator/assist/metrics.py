"""Metrics of a helper in Prometheus' format, computed from its events alone. docs/assist.md has the table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0)


class HelperMetrics:
    """Metrics of one helper; pass its `observe` to the Helper as `on_event`.

    Attributes:
        registry: the registry to expose.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "impasto_assist_requests",
            "Requests: queued, drawn, delivered, or the code of their end or refusal.",
            ["result"],
            registry=registry,
        )
        self._waiting = Gauge("impasto_assist_waiting", "Requests that wait or are drawn.", registry=registry)
        self._seconds = Histogram(
            "impasto_assist_seconds", "From a request's arrival to its answer.", buckets=_SECONDS, registry=registry
        )

    def observe(self, event: Mapping[str, Any]) -> None:
        """Update the metrics by one event."""
        match event["event"]:
            case "assist_queued":
                self._requests.labels("queued").inc()
                self._waiting.inc()
            case "assist_drawn":
                self._requests.labels("drawn").inc()
                self._seconds.observe(event["seconds"])
                self._waiting.dec()
            case "assist_delivered":
                self._requests.labels("delivered").inc()
            case "assist_ended":
                self._requests.labels(event["code"]).inc()
                self._waiting.dec()
            case "refused":
                self._requests.labels(event["code"]).inc()
