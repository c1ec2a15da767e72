"""Metrics in Prometheus' format, computed from the events of a service alone.

docs/coordinator.md has the table. Counters begin at zero with the process, as Prometheus expects.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from edge_sdk.errors import ConfigurationError

LOOPBACK = "127.0.0.1"
_MINUTES = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0, 24 * 3600.0)
_SECONDS = (0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0)


class Metrics:
    """Metrics of one service; pass its `observe` to the Service as `on_event`.

    Attributes:
        registry: the registry to expose.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._counted: dict[tuple[str, ...], int] = {}
        self._started: dict[int, float] = {}

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"impasto_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"impasto_{name}", text, labels, registry=registry)

        self._messages = counter("messages", "Messages received (up) and sent (down).", "direction", "kind")
        self._bytes = counter("payload_bytes", "Bytes of their payloads.", "direction", "kind")
        self._ignored = counter("ignored", "Messages that do no harm and call for nothing.", "reason")
        self._refused = counter("refusals", "What was refused, by the name of the reason.", "code")
        self._over_quota = counter("over_quota", "Messages that were dropped as over their sender's quota.", "code")
        self._dropped = counter("inbox_dropped", "What found no room in the inbox.", "lane")
        self._unsent = counter("send_failures", "Messages that could not be sent.", "code")
        self._delivered = counter("adapters_delivered", "Adapters that a device has stored.")
        self._updates = counter("updates", "Updates: counted, late (counted in a later round), refused.", "result")
        self._sums = counter("masked_sums", "Masked sums: complete, abandoned.", "how")
        self._closed = counter("rounds_ended", "Rounds that have ended: closed, failed, abandoned.", "how")
        self._faults = counter("store_faults", "Reported faults of a store, by the work that waits for it.", "work")
        self._waiting = gauge("store_waits", "Work that waits for a store: 1, or 0.", "work")
        for work in ("state", "updates", "learning"):
            self._waiting.labels(work).set(0)
        self._losses = counter("broker_losses", "Connections to the broker that were lost.")
        self._connected = gauge("broker_connected", "Whether there is a connection to the broker: 1 or 0.")
        self._rounds = gauge("rounds", "Rounds in all.")
        self._round = gauge("round", "The last round that was closed.")
        self._devices = gauge("devices", "Devices: online, offline, left.", "state")
        self._transfers = gauge("transfers", "Updates: being pulled, waiting for it.", "state")
        self._round_seconds = Histogram(
            "impasto_round_seconds", "From a round's start to its end.", buckets=_MINUTES, registry=registry
        )
        self._aggregation_seconds = Histogram(
            "impasto_aggregation_seconds", "Time to aggregate a round.", buckets=_SECONDS, registry=registry
        )

    def observe(self, event: Mapping[str, Any]) -> None:
        """Update the metrics by one event."""
        match event["event"]:
            case "coordinator_started":
                self._connected.set(1)
                self._rounds.set(event["rounds"])
                self._round.set(event["round"])
            case "status":
                self._status(event)
            case "refused":
                self._refused.labels(event["code"]).inc()
            case "over_quota":
                self._over_quota.labels(event["code"]).inc(event["messages"])
            case "messages_dropped":
                self._dropped.labels("messages").inc(event["messages"])
                self._dropped.labels("chunks").inc(event["chunks"])
            case "send_failed":
                self._unsent.labels(event["code"]).inc(event.get("messages", 1))
            case "adapter_delivered":
                self._delivered.inc()
            case "broker_lost":
                self._connected.set(0)
                self._losses.inc()
            case "broker_back":
                self._connected.set(1)
            case "broker_refused":
                self._unsent.labels(event["code"]).inc()
            case "store_unavailable":
                self._faults.labels(event["work"]).inc()
                self._waiting.labels(event["work"]).set(1)
            case "store_back":
                self._waiting.labels(event["work"]).set(0)
            case "update_counted":
                self._updates.labels("late" if event["late"] else "counted").inc()
            case "sum_complete":
                self._sums.labels("complete").inc()
            case "sum_abandoned":
                self._sums.labels("abandoned").inc()
            case "round_started":
                self._started[event["round"]] = event["time"]
            case "round_closed":
                self._round.set(event["round"])
                self._updates.labels("refused").inc(len(event["refused"]))
                if "clipped" in event:  # no update of a masked sum counts before the sum is unmasked
                    self._updates.labels("counted").inc(event["updates"])
                self._aggregation_seconds.observe(event["aggregation_seconds"])
                self._ended(event, "closed")
            case "round_failed":
                self._round.set(event["round"])
                self._ended(event, "failed")
            case "round_abandoned":
                self._ended(event, "abandoned")

    def _ended(self, event: Mapping[str, Any], how: str) -> None:
        self._closed.labels(how).inc()
        started = self._started.pop(event["round"], None)
        if started is not None:  # the round was started by this process
            self._round_seconds.observe(max(0.0, event["time"] - started))

    def _status(self, event: Mapping[str, Any]) -> None:
        for state, count in event["devices"].items():
            self._devices.labels(state).set(count)
        for state, count in event["transfers"].items():
            self._transfers.labels(state).set(count)
        for direction, kinds in event["messages"].items():
            for kind, (messages, size) in kinds.items():
                self._raise(self._messages, messages, direction, kind)
                self._raise(self._bytes, size, direction, kind)
        for reason, count in event["ignored"].items():
            self._raise(self._ignored, count, reason)

    def _raise(self, counter: Counter, total: int, *labels: str) -> None:
        """Raise a counter to the total that a status event states."""
        key = (str(counter), *labels)
        counter.labels(*labels).inc(total - self._counted.get(key, 0))
        self._counted[key] = total


class Exposed(Protocol):
    """Metrics with the registry to expose."""

    registry: CollectorRegistry


class Exposition:
    """An HTTP server that answers GET /metrics until the context ends.

    Args:
        metrics: the metrics to expose.
        address: "host:port", or a port alone, which then listens on the loopback address.

    Raises:
        ConfigurationError: the address is invalid or in use.
    """

    def __init__(self, metrics: Exposed, address: str) -> None:
        host, port = _parsed(address)
        try:
            self._server, self._thread = start_http_server(port, host, metrics.registry)
        except (OSError, OverflowError) as error:
            raise ConfigurationError(
                f"Cannot answer on --metrics {address}: {error}. Choose another port, or end what uses it."
            ) from error

    @property
    def port(self) -> int:
        """Port that it listens on."""
        return int(self._server.server_port)

    def __enter__(self) -> Exposition:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _parsed(address: str) -> tuple[str, int]:
    parts = urlsplit(f"//{LOOPBACK}:{address}" if address.isdigit() else f"//{address}")
    try:
        if parts.hostname and parts.port is not None and not parts.path:
            return parts.hostname, parts.port
    except ValueError:  # a port that is no number, or too large
        pass
    raise ConfigurationError(f"--metrics {address!r} is no address: give host:port, for example {LOOPBACK}:9464.")
