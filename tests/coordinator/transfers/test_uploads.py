"""Updates on their way in, against devices that repeat, replace and lie, and a disk that fails."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from coordinator.learning.aggregate import Learning
from coordinator.rounds import Tick
from coordinator.server.service import Service
from coordinator.store.blobs import FolderBlobs
from coordinator.transfers.sessions import Sessions
from coordinator.transfers.spool import SpoolFile
from edge_sdk.adapter import Adapter, to_bytes
from edge_sdk.transport.memory import MemoryBroker
from edge_sdk.wire.messages import (
    Committed,
    Join,
    Leave,
    Manifest,
    Offer,
    Pull,
    Refused,
    RoundDone,
    RoundStart,
    Welcome,
)
from edge_sdk.wire.transfer import encode_chunk
from tests.coordinator.adapters import random_adapter
from tests.coordinator.played import DEADLINE, TOPICS, Devices, federation
from tests.integration.coordinators import Coordinator
from tests.integration.devices import profile


class Place:
    """A coordinator whose first round is open for two devices."""

    def __init__(self, folder: Path) -> None:
        self.broker = MemoryBroker()
        self.broker.__enter__()
        self.coordinator = Coordinator(federation(folder, self.broker.url, 2), once=False)
        self.coordinator.wait_for("coordinator_started")
        self.devices = Devices(self.broker.url)
        self.join("a", "b")
        self.devices.hear(RoundStart, {"a", "b"})

    def close(self) -> None:
        self.devices.transport.close()
        self.coordinator.stop()
        self.broker.__exit__(None, None, None)

    @property
    def service(self) -> Service:
        return self.coordinator.service

    def join(self, *names: str) -> None:
        """Heard, so that all that was said before was dealt with."""
        for number, name in enumerate(names):
            self.devices.say(name, Join(profile=profile("apples", number)))
        self.devices.hear(Welcome, set(names))

    def committed(self, device: str) -> str:
        return str(self.devices.hear(Committed, {device})[0].sha256)

    def accepted(self) -> list[bool]:
        return [done.accepted for done in self.devices.hear(RoundDone, {"a", "b"})]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.close()


class Held:
    """Lets the check of one update begin, and end when it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, adapter: Adapter) -> None:
        self.begun, self.end = threading.Event(), threading.Event()
        check, held = Learning.check_update, to_bytes(adapter)

        def slow(learning: Learning, data: bytes, member: Any, sha256: str) -> tuple[Adapter, float]:
            if data == held:
                self.begun.set()
                assert self.end.wait(DEADLINE)
            return check(learning, data, member, sha256)

        monkeypatch.setattr(Learning, "check_update", slow)


def test_what_is_being_stored_is_left_alone_whatever_else_is_offered(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, devices = Held(monkeypatch, random_adapter(1)), place.devices
    first = devices.offer("a", random_adapter(1))
    assert held.begun.wait(DEADLINE)
    for _ in range(3):
        devices.offer("a", random_adapter(9))
        devices.offer("a", random_adapter(1))
    place.join("a")
    assert place.service._uploads.needed == {first.manifest.sha256}
    assert place.service._uploads.postponed(5.0) == 15.0, "the round waits a little"
    held.end.set()
    assert place.committed("a") == first.manifest.sha256
    devices.offer("b", random_adapter(2))
    assert place.accepted() == [True, True]
    counted = [event["device"] for event in place.coordinator.named("update_counted")]
    assert counted == ["a", "b"]
    assert place.service._uploads.needed == set()


def test_what_was_checked_for_a_round_that_was_abandoned_is_checked_again_for_the_one_that_counts(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, devices, runner = Held(monkeypatch, random_adapter(1)), place.devices, place.service._runner
    offer = devices.offer("a", random_adapter(1))
    assert held.begun.wait(DEADLINE)

    def abandon() -> None:
        assert runner.state.current is not None
        runner.state = replace(runner.state, current=replace(runner.state.current, deadline=0.0, extended=99))
        runner.feed(Tick())

    place.service._inbox.put(abandon, 0)
    assert [start.attempt for start in devices.hear(RoundStart, {"a"})] == [2]
    assert devices.offer("a", random_adapter(1), attempt=2).manifest == offer.manifest
    devices.offer("b", random_adapter(2), attempt=2)
    place.join("b")
    held.begun.clear()
    held.end.set()
    assert place.committed("a") == offer.manifest.sha256
    assert held.begun.is_set(), "its new part in the round may be another one"
    assert place.accepted() == [True, True]
    assert not place.coordinator.named("refused")


def test_a_device_that_leaves_while_its_update_is_being_stored(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device has done its part, and its update counts."""
    held = Held(monkeypatch, random_adapter(1))
    offer = place.devices.offer("a", random_adapter(1))
    assert held.begun.wait(DEADLINE)
    place.devices.say("a", Leave(reason="tired"))
    place.coordinator.wait_for("device_left")
    held.end.set()
    assert place.committed("a") == offer.manifest.sha256


@pytest.mark.parametrize("answer", ["committed", "refused"])
def test_the_end_of_a_download_is_not_that_of_an_upload_of_the_same_content(place: Place, answer: str) -> None:
    """An update is offered under the hash of an adapter that the coordinator itself offers."""
    devices = place.devices
    devices.offer("a", random_adapter(1))
    devices.offer("b", random_adapter(2))
    start = devices.hear(RoundStart, {"a", "b"})[0]
    sha256 = start.manifests[0].sha256
    manifest = Manifest(role="update", name="update", sha256=sha256, size=60_000, chunk_size=1024)
    offer = Offer(round=2, attempt=2, manifest=manifest, pictures=10, first_loss=1.0, last_loss=0.5, train_seconds=1.0)
    devices.say("a", offer)
    devices.hear(Pull, {"a"})
    say = {"committed": Committed(sha256=sha256), "refused": Refused(code="x", reason="x", about=sha256)}[answer]
    devices.say("a", say)
    for index in range(3):
        devices.transport.publish(TOPICS.chunks("a", "up"), encode_chunk(sha256, index, bytes(1024)))
    place.join("b")
    received = place.service._sessions.progress("a", sha256)
    assert received == (3, 59)


def no_space(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("owner", "name"), [(FolderBlobs, "take"), (Sessions, "whole"), (SpoolFile, "__init__"), (SpoolFile, "read")]
)
def test_a_disk_that_fails_costs_an_attempt_and_nothing_else(
    place: Place, monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    """Nothing was promised; the device offers its update again, as it does every few seconds."""
    failed, original = threading.Event(), getattr(owner, name)

    def once(*given: Any) -> Any:
        if not failed.is_set():
            failed.set()
            no_space()
        return original(*given)

    monkeypatch.setattr(owner, name, once)
    offer = place.devices.offer("a", random_adapter(1))
    assert failed.wait(DEADLINE)
    if name == "read":  # all of it is there: it is tried again when it would be pulled again
        assert place.committed("a") == offer.manifest.sha256
        return
    while not place.coordinator.named("update_counted"):
        place.join("b")
        place.devices.say("a", offer)
    assert place.committed("a") == offer.manifest.sha256
    assert not place.coordinator.named("refused")


def test_chunks_that_cannot_be_noted_come_all_the_same(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SpoolFile, "mark", no_space)
    offer = place.devices.offer("a", random_adapter(1))
    assert place.committed("a") == offer.manifest.sha256
