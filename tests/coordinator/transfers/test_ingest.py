"""Updates that came whole: checked, synced, and told."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.config import BaseModel
from coordinator.learning.aggregate import Learning
from coordinator.rounds import Member
from coordinator.store import StoredBlobs, open_blobs
from coordinator.transfers.ingest import Arrival, IngestWorker, Outcome
from edge_sdk.adapter import Adapter, Share, to_bytes
from edge_sdk.errors import AdapterMismatch, StoreUnavailable, TransferError
from edge_sdk.wire.transfer import make_manifest
from tests.coordinator.adapters import BASE_ID, SLOTS, random_adapter
from tests.coordinator.federations import offer
from tests.coordinator.settings import federation_of

MEMBER = Member(0, 4, None, 0, Share.BOTH)


class Place:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs: StoredBlobs = open_blobs(str(folder / "blobs"))
        learning = Learning(federation_of(), BaseModel(BASE_ID, SLOTS), dict, self.blobs)
        self.outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self.troubles: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.storing = IngestWorker(learning, self.blobs, self.outcomes.put, self.troubles.put)
        self.storing.start()

    def arrival(self, data: bytes, device: str = "pi") -> Arrival:
        manifest = make_manifest(data, role="update", name="update")
        file = self.folder / f"{device}.{manifest.sha256}"
        file.write_bytes(data)
        return Arrival(device, offer(device, 1, manifest=manifest), MEMBER, data, file, 1)

    def outcome(self) -> Outcome:
        return self.outcomes.get(timeout=60)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.storing.close(60)


def test_an_update_becomes_a_blob(place: Place) -> None:
    data = to_bytes(random_adapter(1, 4))
    arrival = place.arrival(data)
    place.storing.put(arrival)
    outcome = place.outcome()
    assert outcome.arrival is arrival
    assert outcome.error is None
    assert outcome.norm > 0
    assert place.blobs.get(arrival.offer.manifest.sha256) == data
    assert not arrival.file.exists()


def test_what_is_wrong_is_told_and_not_stored(place: Place) -> None:
    arrival = place.arrival(to_bytes(random_adapter(1, 5)))
    place.storing.put(arrival)
    outcome = place.outcome()
    assert isinstance(outcome.error, AdapterMismatch)
    assert arrival.file.exists()
    assert list((place.folder / "blobs").iterdir()) == []


def test_an_update_without_all_layers_is_none(place: Place) -> None:
    """It would pull the missing layers towards zero, and no norm would show it."""
    whole = random_adapter(1, 4)
    (name, factors), *_ = whole.layers.items()
    place.storing.put(place.arrival(to_bytes(Adapter({name: factors}, BASE_ID))))
    error = place.outcome().error
    assert isinstance(error, AdapterMismatch)
    assert "lacks layer" in str(error)


def test_a_file_that_is_lost_is_told(place: Place) -> None:
    arrival = place.arrival(to_bytes(random_adapter(1, 4)))
    arrival.file.unlink()
    place.storing.put(arrival)
    assert isinstance(place.outcome().error, FileNotFoundError)


def test_a_file_that_somebody_has_changed_is_not_stored(place: Place) -> None:
    arrival = place.arrival(to_bytes(random_adapter(1, 4)))
    arrival.file.write_bytes(b"")
    place.storing.put(arrival)
    assert isinstance(place.outcome().error, TransferError)
    assert list((place.folder / "blobs").iterdir()) == []


def test_the_end_leaves_what_waits(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, end = threading.Event(), threading.Event()
    check = Learning.check_update

    def slow(learning: Learning, data: bytes, member: Member, sha256: str) -> tuple[Adapter, float]:
        begun.set()
        assert end.wait(60)
        return check(learning, data, member, sha256)

    monkeypatch.setattr(Learning, "check_update", slow)
    arrivals = [place.arrival(to_bytes(random_adapter(seed, 4))) for seed in (1, 2)]
    for arrival in arrivals:
        place.storing.put(arrival)
    assert begun.wait(60)
    place.storing.close(0)
    end.set()
    place.storing.close(60)
    assert place.outcome().error is None
    assert place.outcomes.empty()
    assert [arrival.file.exists() for arrival in arrivals] == [False, True]


def test_hashes_are_needed_until_the_loop_has_taken_them_in(place: Place) -> None:
    data = to_bytes(random_adapter(1, 4))
    for device in ("pi", "jetson"):  # that have trained the same
        place.storing.put(place.arrival(data, device))
    first, second = place.outcome(), place.outcome()
    sha256 = first.arrival.offer.manifest.sha256
    place.storing.finished(first)
    assert place.storing.hashes == {sha256}
    place.storing.finished(second)
    assert place.storing.hashes == set()


def test_a_store_that_does_not_work_is_tried_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.store.backoff.FIRST", 0.01)
    blobs = place.folder / "blobs"
    (place.folder / "aside").mkdir()
    arrival = place.arrival(to_bytes(random_adapter(1, 4)))
    blobs.rename(place.folder / "aside" / "blobs")
    blobs.write_text("something else")
    place.storing.put(arrival)
    assert "cannot be used" in place.troubles.get(timeout=60)
    blobs.unlink()
    outcome = place.outcome()
    assert outcome.error is None or isinstance(outcome.error, StoreUnavailable), "it may have been too late"
    if outcome.error is not None:
        place.storing.put(arrival)
        assert place.outcome().error is None
    assert place.blobs.names() == {arrival.sha256}
