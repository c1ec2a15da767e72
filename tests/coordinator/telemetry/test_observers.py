"""Observers of events that fail: the federation goes on, and so do the other observers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coordinator.telemetry import Counters, EventFile, Observers, Reports
from edge_sdk.errors import ConfigurationError
from tests.coordinator.three_devices import ROUNDS, devices, whole
from tests.integration.coordinators import Coordinator


def fail(event: dict[str, Any]) -> None:
    raise RuntimeError(f"cannot take {event['event']}")


def test_a_federation_goes_on_without_it(url: str, tmp_path: Path) -> None:
    """It ended with the first event before."""
    path, _ = whole(tmp_path, url)
    coordinator = Coordinator(path, on_event=fail)
    for device in devices(url, tmp_path):
        assert device.join().error is None
    coordinator.join()
    assert coordinator.service.state.round == ROUNDS


def test_the_others_hear_everything_and_a_failure_is_said_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []
    warnings: list[str] = []
    observers = Observers([fail, lambda event: heard.append(event["event"])], warnings.append)
    for name in ("one", "two", "three"):
        observers({"event": name})
    assert heard == ["one", "two", "three"]
    assert len(warnings) == len(caplog.records) == 1
    assert "at one" in warnings[0]
    assert "RuntimeError: cannot take one" in warnings[0]


def test_a_wrong_setting_is_said_by_the_first_event_and_no_later_one() -> None:
    def wrong(event: dict[str, Any]) -> None:
        raise ConfigurationError("choose another file")

    with pytest.raises(ConfigurationError):
        Reports(wrong, Counters(0, 0))("coordinator_started")
    with EventFile(Path("/dev/full"), lambda _: None) as file, pytest.raises(ConfigurationError, match="/dev/full"):
        Observers([file.tell])({"event": "coordinator_started"})
    calls: list[str] = []

    def wrong_later(event: dict[str, Any]) -> None:
        calls.append(event["event"])
        if len(calls) > 1:
            wrong(event)

    report = Reports(wrong_later, Counters(0, 0))
    report("coordinator_started")
    report("device_joined")
    assert calls == ["coordinator_started", "device_joined"]
