"""The learning thread: the coordinator goes on while it clusters and aggregates."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator import config, rounds
from coordinator.learning import Answer, Learning, LearningWorker
from coordinator.store import Database, open_blobs
from edge_sdk.errors import StoreUnavailable
from edge_sdk.wire.messages import Join, RoundDone, RoundStart, Welcome
from tests.coordinator.adapters import BASE_ID, random_adapter
from tests.coordinator.played import Devices, federation
from tests.integration.coordinators import Coordinator
from tests.integration.devices import profile


class Asleep:
    """A method of `Learning` that sleeps until it is woken."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, call: int = 1) -> None:
        self.begun, self.wake, self.calls = threading.Event(), threading.Event(), 0
        original = getattr(Learning, name)

        def slow(learning: Learning, action: Any) -> Any:
            self.calls += 1
            if self.calls == call:
                self.begun.set()
                assert self.wake.wait(60)
            return original(learning, action)

        monkeypatch.setattr(Learning, name, slow)


@pytest.mark.parametrize("name", ["aggregate", "cluster"])
def test_a_device_joins_and_is_welcomed_meanwhile(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The coordinator heard nothing while it computed, before."""
    asleep = Asleep(monkeypatch, name)
    coordinator, devices = Coordinator(federation(tmp_path, url, 2), once=False), Devices(url)
    coordinator.wait_for("coordinator_started")
    devices.join("a", "b")
    if name == "aggregate":
        devices.hear(RoundStart, {"a", "b"})
        for i, device in enumerate(("a", "b")):
            devices.offer(device, random_adapter(i))
    assert asleep.begun.wait(60)
    devices.say("c", Join(profile=profile("apples", 2)))
    devices.hear(Welcome, {"c"})
    assert coordinator.service.state.phase == ("aggregating" if name == "aggregate" else "clustering")
    asleep.wake.set()
    if name == "aggregate":
        devices.hear(RoundDone, {"a", "b"})
        devices.hear(RoundStart, {"a", "b", "c"})
    else:
        devices.hear(RoundStart, {"a", "b"})
    coordinator.stop()


def test_nothing_is_pruned_while_a_computation_writes_blobs(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No state names the new blobs yet."""
    asleep, path = Asleep(monkeypatch, "cluster", call=2), federation(tmp_path, url, 2)
    coordinator, devices = Coordinator(path, once=False), Devices(url)
    coordinator.wait_for("coordinator_started")
    devices.join("a", "b")
    devices.hear(RoundStart, {"a", "b"})
    for i, device in enumerate(("a", "b")):
        devices.offer(device, random_adapter(i))
    assert asleep.begun.wait(60)
    written = open_blobs(str(config.load(path).blobs))
    sha256 = written.put(b"written by the computation")
    for newcomer in ("c", "d"):  # the loop has turned meanwhile
        devices.say(newcomer, Join(profile=profile("apples", 2)))
        devices.hear(Welcome, {newcomer})
    assert sha256 in written.names()
    asleep.wake.set()
    devices.hear(RoundStart, {"a", "b"})
    devices.say("e", Join(profile=profile("apples", 3)))
    devices.hear(Welcome, {"e"})
    assert sha256 not in written.names(), "it is pruned once no computation is open"
    coordinator.stop()


@pytest.mark.parametrize("name", ["aggregate", "cluster"])
def test_the_next_start_asks_again(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("coordinator.server.performer._END", 0.0)
    path = federation(tmp_path, url, 2)
    with monkeypatch.context() as patched:
        asleep = Asleep(patched, name)
        coordinator, devices = Coordinator(path, once=False), Devices(url)
        coordinator.wait_for("coordinator_started")
        devices.join("a", "b")
        if name == "aggregate":
            devices.hear(RoundStart, {"a", "b"})
            for i, device in enumerate(("a", "b")):
                devices.offer(device, random_adapter(i))
        assert asleep.begun.wait(60)
        coordinator.stop()
    again = Coordinator(path, once=False)
    asleep.wake.set()  # the answer of the earlier start is nobody's any more
    again.wait_for("round_started")
    if name == "aggregate":
        assert [event["updates"] for event in again.named("round_closed")] == [2]
    again.stop()
    assert len(Database(str(config.load(path).database), "tastes", BASE_ID).updates()) == (
        2 if name == "aggregate" else 0
    )


class Stub(Learning):
    """Answers by the numbers of rounds, and as slowly and faultily as it is told."""

    def __init__(self) -> None:
        self.faults: list[Exception] = []
        self.gate = threading.Semaphore(0)

    def try_cluster(self, action: rounds.Cluster) -> rounds.Clustered:
        assert self.gate.acquire(timeout=60)
        if self.faults:
            raise self.faults.pop(0)
        return rounds.Clustered({"a": action.round})


class Thread:
    def __init__(self, folder: Path) -> None:
        self.answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self.troubles: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.learning = Stub()
        blobs = open_blobs(str(folder / "blobs"))
        self.worker = LearningWorker(self.learning, blobs, self.answers.put, self.troubles.put)
        self.worker.start()


@pytest.fixture
def thread(tmp_path: Path) -> Iterator[Thread]:
    made = Thread(tmp_path)
    yield made
    made.learning.gate.release(10)
    made.worker.close(60)


def question(number: int) -> rounds.Cluster:
    return rounds.Cluster(number, {}, 0)


def test_only_the_latest_question_about_a_round_is_answered(thread: Thread) -> None:
    questions = [question(number) for number in (1, 2, 3)]
    for asked in questions:
        thread.worker.put(asked, rounds.State())
    assert thread.worker.is_busy
    thread.learning.gate.release(3)
    found = thread.answers.get(timeout=60)
    while found.question is not questions[-1]:  # the first one may have been begun before the second was put
        assert not thread.worker.taken(found)
        found = thread.answers.get(timeout=60)
    assert thread.worker.taken(found)
    assert found.event == rounds.Clustered({"a": 3})
    assert not thread.worker.is_busy


def test_a_store_that_is_away_is_asked_again_and_said(thread: Thread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.store.backoff.FIRST", 0.01)
    thread.learning.faults = [StoreUnavailable("away"), StoreUnavailable("still away")]
    thread.learning.gate.release(3)
    thread.worker.put(question(1), rounds.State())
    assert thread.answers.get(timeout=60).event == rounds.Clustered({"a": 1})
    assert [thread.troubles.get(timeout=60) for _ in range(2)] == ["away", "still away"]


def test_an_unexpected_error_is_handed_to_the_loop(thread: Thread) -> None:
    thread.learning.faults = [KeyError("a bug")]
    thread.learning.gate.release(1)
    thread.worker.put(question(1), rounds.State())
    found = thread.answers.get(timeout=60)
    assert isinstance(found.error, KeyError)
    assert thread.worker.taken(found)


def test_lost_blobs_are_found_before_devices_are_clustered(thread: Thread) -> None:
    thread.worker.put(question(1), rounds.State(root=rounds.Lineage(moments="0" * 64)))
    assert thread.answers.get(timeout=60).event == rounds.Lost(frozenset(["0" * 64]))
