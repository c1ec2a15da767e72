"""Metrics of the Prometheus endpoint match the events of real runs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from coordinator.telemetry.prometheus import Exposition, Metrics
from edge_sdk.errors import ConfigurationError
from edge_sdk.transport.memory import MemoryBroker
from edge_sdk.wire.messages import Join, Welcome
from tests.coordinator.played import Devices, federation
from tests.integration.coordinators import Coordinator, devices, write_federation
from tests.integration.devices import profile
from tests.transport.brokers import Mosquitto, free_port

PAGE = Path(__file__).parents[3] / "docs" / "coordinator.md"


def scraped(port: int) -> dict[tuple[str, ...], float]:
    """(name, label values…) -> value."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, *sample.labels.values()): sample.value for sample in samples}


def of(found: dict[tuple[str, ...], float], name: str) -> dict[tuple[str, ...], float]:
    return {labels: value for (at, *rest), value in found.items() if at == name for labels in [tuple(rest)]}


def test_a_real_run_in_figures(tmp_path: Path) -> None:
    metrics = Metrics()
    with MemoryBroker() as broker, Exposition(metrics, "0") as exposition:
        coordinator = Coordinator(write_federation(tmp_path, broker.url), on_event=metrics.observe)
        for device in devices(broker.url, tmp_path):
            assert device.join().error is None
        coordinator.join()
        found = scraped(exposition.port)
    named, last = coordinator.named, coordinator.named("status")[-1]
    assert of(found, "impasto_rounds") == of(found, "impasto_round") == {(): 3}
    assert of(found, "impasto_updates_total")["counted",] == len(named("update_counted")) == 18
    assert of(found, "impasto_updates_total")["refused",] == 0
    assert of(found, "impasto_adapters_delivered_total") == {(): len(named("adapter_delivered"))}
    assert of(found, "impasto_rounds_ended_total") == {("closed",): 3}
    closed = named("round_closed")
    assert found["impasto_aggregation_seconds_sum",] == pytest.approx(sum(e["aggregation_seconds"] for e in closed))
    spans = [end["time"] - begin["time"] for begin, end in zip(named("round_started"), closed, strict=True)]
    assert found["impasto_round_seconds_count",] == 3
    assert found["impasto_round_seconds_sum",] == pytest.approx(sum(spans))
    assert of(found, "impasto_devices") == {(state,): n for state, n in last["devices"].items()}
    assert sum(last["devices"].values()) == 6
    assert of(found, "impasto_transfers") == {("pulled",): 0, ("waiting",): 0}
    messages, size = of(found, "impasto_messages_total"), of(found, "impasto_payload_bytes_total")
    assert messages["up", "offer"] == 18
    assert messages["down", "roundstart"] == 18
    assert messages["up", "chunk"] >= 18
    for direction in ("up", "down"):
        total = sum(value for (way, _), value in size.items() if way == direction)
        assert total == last["bytes"][direction] > 0


def test_work_that_waits_for_a_store(tmp_path: Path) -> None:
    metrics = Metrics()
    for event in (
        {"event": "store_unavailable", "work": "learning", "reason": "away"},
        {"event": "store_unavailable", "work": "updates", "reason": "away"},
        {"event": "store_unavailable", "work": "updates", "reason": "full"},
        {"event": "store_back", "work": "learning", "seconds": 3.0},
    ):
        metrics.observe(event)
    with Exposition(metrics, "0") as exposition:
        found = scraped(exposition.port)
    assert of(found, "impasto_store_waits") == {("state",): 0, ("updates",): 1, ("learning",): 0}
    assert of(found, "impasto_store_faults_total") == {("updates",): 2, ("learning",): 1}


def test_what_went_wrong_in_figures(tmp_path: Path) -> None:
    metrics = Metrics()
    with MemoryBroker() as broker, Exposition(metrics, "127.0.0.1:0") as exposition:
        more = federation(tmp_path, broker.url, 2)
        more.write_text(more.read_text() + "device_messages = 10\n")
        coordinator = Coordinator(more, on_event=metrics.observe)
        coordinator.wait_for("coordinator_started")
        sessions = Devices(broker.url)
        wrong = profile("apples", 0, base_id="another")
        sessions.say("a", Join(profile=profile("apples", 0)))
        coordinator.wait_for("device_joined")
        sessions.say("a", Join(profile=wrong))
        for _ in range(30):
            sessions.say("a", Join(profile=profile("apples", 0)))
        sessions.say("b", Join(profile=profile("apples", 1)))
        sessions.hear(Welcome, {"b"})  # it was said last
        coordinator.stop()
        found = scraped(exposition.port)
    codes = Counter(event["code"] for event in coordinator.named("refused"))
    assert (
        of(found, "impasto_refusals_total") == {(code,): n for code, n in codes.items()} == {("BaseModelMismatch",): 1}
    )
    dropped = sum(event["messages"] for event in coordinator.named("over_quota"))
    assert of(found, "impasto_over_quota_total") == {("TooManyMessages",): dropped}
    assert of(found, "impasto_messages_total")["up", "join"] + dropped == 33


def test_late_and_failed_and_unknown_events() -> None:
    metrics = Metrics()
    events: list[dict[str, Any]] = [
        {"event": "update_counted", "late": 2},
        {"event": "sum_complete", "devices": 4},
        {"event": "sum_complete", "devices": 3},
        {"event": "sum_abandoned"},
        {
            "event": "round_closed",
            "round": 0,
            "time": 5.0,
            "updates": 4,
            "refused": {},
            "clipped": 0.0,
            "aggregation_seconds": 0.1,
        },
        {"event": "messages_dropped", "messages": 1, "chunks": 5},
        {"event": "send_failed", "code": "DeadlineExceeded"},
        {"event": "round_abandoned", "round": 1, "time": 5.0},
        {"event": "round_failed", "round": 1, "time": 5.0},
        {"event": "something_new"},
    ]
    for event in events:
        metrics.observe(event)
    value = metrics.registry.get_sample_value
    assert value("impasto_updates_total", {"result": "late"}) == 1
    assert value("impasto_updates_total", {"result": "counted"}) == 4, "the other sum was abandoned in the end"
    assert value("impasto_masked_sums_total", {"how": "complete"}) == 2
    assert value("impasto_inbox_dropped_total", {"lane": "chunks"}) == 5
    assert value("impasto_send_failures_total", {"code": "DeadlineExceeded"}) == 1
    assert value("impasto_rounds_ended_total", {"how": "failed"}) == 1
    assert value("impasto_round_seconds_count") == 0, "their beginning was not seen"


def test_every_metric_is_documented() -> None:
    page = PAGE.read_text("utf-8")
    names = {metric.name for metric in Metrics().registry.collect()}
    assert len(names) > 10
    assert [name for name in sorted(names) if f"`{name}" not in page] == []


@pytest.mark.parametrize(
    "address", ["", "here", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999", ":9464", "http://a:1/b"]
)
def test_no_address(address: str) -> None:
    with pytest.raises(ConfigurationError, match=r"127\.0\.0\.1:9464"):
        Exposition(Metrics(), address)


def test_an_address_that_is_taken() -> None:
    with Exposition(Metrics(), "0") as first, pytest.raises(ConfigurationError, match="Choose another port"):
        Exposition(Metrics(), str(first.port))


def test_the_command_answers_where_it_is_asked_to(tmp_path: Path) -> None:
    port = free_port()
    with Mosquitto(tmp_path) as broker:
        path = write_federation(tmp_path, broker.url)
        command = [sys.executable, "-m", "coordinator.cli", "serve", str(path), "--metrics", str(port)]
        command += ["--events", str(tmp_path / "events")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout
            assert "coordinating" in process.stdout.readline()
            assert scraped(port)["impasto_rounds",] == 3
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
    assert process.returncode == 0
    events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert [event["event"] for event in events][-2:] == ["status", "coordinator_stopped"]
