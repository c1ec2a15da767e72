"""The file of events, on a disk that is full for a while."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coordinator.telemetry.event_file import EventFile
from edge_sdk.errors import ConfigurationError


@contextmanager
def room(size: int) -> Iterator[None]:
    """No file of this process grows beyond that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_found_no_room_is_counted_and_no_line_is_torn(tmp_path: Path) -> None:
    path, warnings = tmp_path / "events.jsonl", list[str]()
    path.write_text('{"event": "before"}\n')
    with EventFile(path, warnings.append) as file:
        file.tell({"event": "first"})
        with room(path.stat().st_size + 10):
            file.tell({"event": "second"})
            file.tell({"event": "third"})
        file.tell({"event": "fourth"})
        with room(path.stat().st_size):
            file.tell({"event": "fifth"})
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert [event["event"] for event in events] == ["before", "first", "events_missed", "fourth"]
    assert events[2]["count"] == 2
    assert len(warnings) == 2, "once each time"
    assert str(path) in warnings[0]


def test_one_that_takes_nothing_from_the_start_is_a_wrong_setting(tmp_path: Path) -> None:
    with (
        EventFile(Path("/dev/full"), lambda _: None) as file,
        pytest.raises(ConfigurationError, match="events to /dev/full"),
    ):
        file.tell({"event": "first"})
    with pytest.raises(ConfigurationError, match=f"events to {tmp_path}"):
        EventFile(tmp_path, lambda _: None)
