"""A blob store with passing faults: they are said and tried again, and cost no round; final ones are told apart."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from coordinator.server import takeover
from coordinator.store import StoredBlobs, open_blobs
from edge_sdk.errors import BlobLost, StoreUnavailable
from edge_sdk.transport.memory import MemoryBroker
from tests.coordinator.three_devices import ROUNDS, devices, whole
from tests.integration.coordinators import Coordinator

Fault = Callable[[], Any]


class Flaky(MemoryFileSystem):
    """A file system in memory whose next calls fail as they are told."""

    protocol = "flaky"
    faults: ClassVar[dict[str, list[Fault]]] = {}
    lock: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def _fails(cls, name: str) -> Any:
        with cls.lock:
            faults = cls.faults.get(name, [])
            fault = faults.pop(0) if faults else None
        return fault() if fault else None

    def cat_file(self, path: str, *args: Any, **named: Any) -> Any:
        if path.endswith(".federation") or (answer := self._fails("cat_file")) is None:
            return super().cat_file(path, *args, **named)
        return answer

    def put_file(self, *args: Any, **named: Any) -> Any:
        self._fails("put_file")
        return super().put_file(*args, **named)

    def pipe_file(self, *args: Any, **named: Any) -> Any:
        self._fails("pipe_file")
        return super().pipe_file(*args, **named)

    def ls(self, *args: Any, **named: Any) -> Any:
        self._fails("ls")
        return super().ls(*args, **named)

    def rm_file(self, *args: Any, **named: Any) -> Any:
        self._fails("rm_file")
        return super().rm_file(*args, **named)


def failing(error: Exception) -> Fault:
    def fail() -> Any:
        raise error

    return fail


FAULTS: dict[str, Fault] = {
    "an error": failing(OSError(5, "Input/output error")),
    "no answer": failing(TimeoutError()),
    "an error of the store's own": failing(RuntimeError("SlowDown")),
}
READING: dict[str, Fault] = {
    **FAULTS,
    "not found, though it is there": failing(FileNotFoundError("404")),
    "cut short": lambda: b"adap",
}


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    monkeypatch.setattr("coordinator.store.backoff.FIRST", 0.02)
    Flaky.faults = {}
    yield
    Flaky.faults = {}


@pytest.fixture
def blobs(tmp_path: Path) -> StoredBlobs:
    return open_blobs(f"flaky://{tmp_path.name}")


@pytest.mark.parametrize("name", READING)
def test_a_faulty_answer_is_no_loss(blobs: StoredBlobs, name: str) -> None:
    sha256 = blobs.put(b"adapter")
    Flaky.faults["cat_file"] = [READING[name]]
    if name in FAULTS:
        with pytest.raises(StoreUnavailable, match="cannot be used"):
            blobs.get(sha256)
    assert blobs.get(sha256) == b"adapter"


def test_answers_that_differ_each_time_are_no_loss_either(blobs: StoredBlobs) -> None:
    sha256 = blobs.put(b"adapter")
    Flaky.faults["cat_file"] = [lambda cut=cut: b"adapter"[:cut] for cut in range(1, 5)]  # type: ignore[misc]
    with pytest.raises(StoreUnavailable):
        blobs.get(sha256)
    assert blobs.get(sha256) == b"adapter"


def test_what_is_missing_or_damaged_is_lost(blobs: StoredBlobs) -> None:
    sha256 = blobs.put(b"adapter")
    Flaky.faults["cat_file"] = [READING["cut short"]] * 2
    with pytest.raises(BlobLost, match="damaged"):
        blobs.get(sha256)
    blobs.prune(set())
    with pytest.raises(BlobLost, match="is not in"):
        blobs.get(sha256)


def test_an_error_without_words_has_a_name(blobs: StoredBlobs) -> None:
    Flaky.faults["ls"] = [FAULTS["no answer"]]
    with pytest.raises(StoreUnavailable, match="TimeoutError"):
        blobs.names()


CASES = [
    *(("cat_file", name) for name in READING),
    *((call, "an error") for call in ("put_file", "pipe_file", "ls", "rm_file")),
]


@pytest.mark.parametrize("moment", ["coordinator_started", "update_counted", "round_closed"])
@pytest.mark.parametrize(("call", "name"), CASES)
def test_a_federation_goes_on_and_says_so(tmp_path: Path, call: str, name: str, moment: str) -> None:
    """A faulty read burnt a round, a faulty write ended `serve`."""
    folder = tmp_path.name
    begun: list[str] = []

    def note(event: dict[str, Any]) -> None:
        if event["event"] == moment and (moment != "round_closed" or event["round"] == 1) and not begun:
            begun.append(moment)
            Flaky.faults[call] = [READING[name]] * (1 if name not in FAULTS else 3)

    with MemoryBroker() as broker:
        path, _ = whole(tmp_path, broker.url)
        path.write_text(f'blobs = "flaky://{folder}"\n' + path.read_text())
        coordinator = Coordinator(path, on_event=note)
        for device in devices(broker.url, tmp_path):
            assert device.join().error is None
            assert device.trained == [1, 2, 3], "once each"
        coordinator.join()
    assert begun
    assert [event["round"] for event in coordinator.named("round_closed")] == list(range(1, ROUNDS + 1))
    assert not coordinator.named("round_failed") + coordinator.named("clustering_failed")
    assert not coordinator.named("adapters_lost")
    troubled = [event["work"] for event in coordinator.named("store_unavailable")]
    assert {event["work"] for event in coordinator.named("store_back")} == set(troubled)
    assert troubled or Flaky.faults[call] or name not in FAULTS


def test_a_fault_at_the_start_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a fault ended `serve` before."""
    take_over = takeover.take_over
    starts: list[bool] = []

    def faulty(*given: Any) -> None:
        starts.append(True)
        if len(starts) == 2:
            Flaky.faults["ls"] = [FAULTS["an error"]] * 2
        take_over(*given)

    monkeypatch.setattr(takeover, "take_over", faulty)
    with MemoryBroker() as broker:
        path, _ = whole(tmp_path, broker.url)
        path.write_text(f'blobs = "flaky://{tmp_path.name}"\n' + path.read_text())
        coordinator = Coordinator(path)
        for device in devices(broker.url, tmp_path):
            assert device.join().error is None
        coordinator.join()
        again = Coordinator(path, once=False)
        again.wait_for("coordinator_started")
        again.stop()
    assert len(starts) == 4
    assert [event["work"] for event in again.named("store_unavailable")] == ["state"]
    assert [event["work"] for event in again.named("store_back")] == ["state"]
