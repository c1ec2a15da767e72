"""Unfinished updates of devices: what a coordinator that was killed need not pull again."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.ingress.rate_limits import LEAST, Rates
from coordinator.store import open_blobs
from coordinator.transfers import Spool
from coordinator.transfers.sessions import Sessions
from edge_sdk.errors import ConfigurationError
from edge_sdk.wire.exchange import Arrived, Delivered, Effect, Exchange, Failed, Received, Send, SendChunk
from edge_sdk.wire.messages import Manifest, Pull
from edge_sdk.wire.transfer import Chunk, make_manifest

SIZE = 5500


def content(seed: int = 0, size: int = SIZE) -> bytes:
    return hashlib.shake_128(bytes([seed])).digest(size)


def manifest(data: bytes, chunk_size: int = 1024) -> Manifest:
    return make_manifest(data, "update", "update-1", chunk_size)


def chunk(data: bytes, number: int) -> Chunk:
    return Chunk(manifest(data).sha256, number, memoryview(data)[number * 1024 : (number + 1) * 1024])


def have(spool: Spool, device: str, data: bytes) -> set[int]:
    """The numbers of the chunks that are there, after a check of their content."""
    bits, file = spool.open(device, manifest(data))
    numbers = {number for number in range(6) if bits[0] >> number & 1}
    found = file.read()
    spool.close()
    for number in numbers:
        assert bytes(chunk(data, number).data) == found[number * 1024 : (number + 1) * 1024]
    return numbers


def keep(spool: Spool, device: str, data: bytes, *numbers: int) -> None:
    for number in numbers:
        _, file = spool.open(device, manifest(data))
        file.write(number * 1024, chunk(data, number).data)
        spool.mark(device, manifest(data).sha256, number)
    spool.close()


@given(
    st.lists(st.integers(0, 5), unique=True),
    st.none() | st.integers(0, SIZE - 1) | st.integers(SIZE + 1, SIZE + 10),
)
def test_chunks_are_found_again_and_a_file_of_another_length_is_begun_anew(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int], length: int | None
) -> None:
    folder, data = tmp_path_factory.mktemp("spool"), content()
    keep(Spool(folder), "pi", data, *numbers)
    expected = set(numbers)
    if numbers and length is not None:
        path = folder / f"pi.{manifest(data).sha256}"
        whole = path.read_bytes()
        path.write_bytes((whole + bytes(20))[:length])
        expected = expected if length == len(whole) else set()
    assert have(Spool(folder), "pi", data) == expected
    keep(Spool(folder), "pi", data, 0, 5)
    assert have(Spool(folder), "pi", data) == expected | {0, 5}


def test_one_update_a_device_and_nothing_of_others_is_touched(tmp_path: Path) -> None:
    spool, old, new = Spool(tmp_path), content(1), content(2)
    (tmp_path / "notes.txt").write_text("not ours")
    for device in ("pi", "pi.4"):
        keep(spool, device, old, 0)
    assert have(spool, "pi", new) == set()
    assert have(spool, "pi", old) == set(), "dropped for the new one"
    assert have(spool, "pi.4", old) == {0}
    keep(spool, "pi", new, 1)
    spool.prune({("pi", manifest(new).sha256)})
    assert have(spool, "pi.4", old) == set()
    assert have(spool, "pi", new) == {1}
    for device, data in (("pi", new), ("pi.4", old)):
        spool.drop(device, manifest(data).sha256)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_whole_update_is_its_content_alone_and_may_be_moved_away(tmp_path: Path) -> None:
    spool, data = Spool(tmp_path / "spool"), content()
    keep(spool, "pi", data, *range(6))
    blobs = open_blobs(str(tmp_path / "blobs"))
    blobs.take(spool.whole("pi", manifest(data)), manifest(data).sha256)
    assert blobs.get(manifest(data).sha256) == data
    assert list((tmp_path / "spool").iterdir()) == []


def test_chunks_of_another_size_are_others(tmp_path: Path) -> None:
    spool, data = Spool(tmp_path), content()
    keep(spool, "pi", data, 0, 3)
    bits, _ = spool.open("pi", manifest(data, 1100))  # as many of them
    spool.close()
    assert bits == bytes(1)


def test_a_closed_file_is_an_error_that_is_expected(tmp_path: Path) -> None:
    spool, data = Spool(tmp_path), content()
    _, file = spool.open("pi", manifest(data))
    spool.rest("pi", manifest(data).sha256)
    for use in (lambda: file.write(0, b"x"), file.read, lambda: file.mark(0), file.empty):
        with pytest.raises(OSError, match="descriptor"):
            use()


def test_emptied_chunks_are_not_there(tmp_path: Path) -> None:
    spool, data = Spool(tmp_path), content()
    keep(spool, "pi", data, 0, 3)
    spool.open("pi", manifest(data))
    spool.empty("pi", manifest(data).sha256)
    spool.close()
    assert have(Spool(tmp_path), "pi", data) == set()


def test_a_full_disk_costs_a_chunk_and_nothing_else(wire: Wire) -> None:
    """/dev/full takes no byte, like a full disk."""
    data = content()
    wire.device.offer(data, manifest(data))
    wire.fetch(data, most=2)
    (path,) = (wire.folder / "spool").iterdir()
    file = wire.sessions._spool._open[path]._file
    original = os.dup(file.fileno())
    with Path("/dev/full").open("r+b", buffering=0) as full:
        os.dup2(full.fileno(), file.fileno())
        wire.talk(wire.sessions.offered_again("pi", manifest(data).sha256, 0.0, 2))
    os.dup2(original, file.fileno())
    os.close(original)
    assert wire.reports == []
    assert wire.sessions.progress("pi", manifest(data).sha256) == (2, 6)
    wire.talk(wire.sessions.offered_again("pi", manifest(data).sha256, 0.0, 3))
    assert wire.reports == [Received(manifest(data), data)]


def test_a_spool_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="home"):
        Spool(tmp_path / "file")


class Wire:
    """A device's exchange and a coordinator's sessions, joined."""

    def __init__(self, folder: Path, bandwidth: float | None = None, downloads: int = 1 << 40) -> None:
        self.folder, self.bandwidth = folder, bandwidth
        self.downloads = Rates(1000, downloads)
        self.device = Exchange()
        self.sent: list[bytes] = []
        self.reports: list[Effect] = []
        self.sessions = self._new_sessions()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.sessions.close()

    def restart(self) -> None:
        self.sessions.close()
        self.sessions = self._new_sessions()

    def _new_sessions(self) -> Sessions:
        blobs = open_blobs(str(self.folder / "blobs"))
        return Sessions(blobs, Spool(self.folder / "spool"), 1 << 20, self.bandwidth, self.downloads)

    def fetch(self, data: bytes, most: int = 1000) -> None:
        """Let the coordinator pull, until nothing is on its way or so many chunks have come."""
        self.talk(self.sessions.fetch("pi", manifest(data), 0.0, 60.0, 1), most)

    def talk(self, effects: list[Effect], most: int = 1000) -> None:
        while effects:
            effect = effects.pop(0)
            if not isinstance(effect, Send):
                self.reports += [] if isinstance(effect, Arrived) else [effect]
                continue
            for answer in self.device.on_message(effect.message, 0.0):
                if isinstance(answer, Send):
                    effects += self.sessions.on_message("pi", answer.message, 0.0)
                elif isinstance(answer, SendChunk) and most > 0:
                    most -= 1
                    self.sent.append(answer.payload)
                    effects += self.sessions.on_chunk("pi", answer.payload, 0.0)
                else:
                    self.reports += [] if isinstance(answer, SendChunk) else [answer]


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    with Wire(tmp_path) as made:
        yield made


def test_a_restarted_coordinator_pulls_only_what_is_missing(wire: Wire) -> None:
    data = content()
    wire.device.offer(data, manifest(data))
    wire.fetch(data, most=4)
    assert wire.reports == []
    wire.restart()
    wire.fetch(data)
    assert wire.reports == [Received(manifest(data), data)]
    assert len(wire.sent) == len(set(wire.sent)) == 6
    wire.restart()  # killed before it was stored: nothing at all is pulled
    wire.fetch(data)
    assert wire.reports == [Received(manifest(data), data)] * 2
    assert len(wire.sent) == 6
    wire.sessions.whole("pi", manifest(data))
    wire.restart()  # killed while it was stored: the same
    wire.fetch(data)
    assert wire.reports == [Received(manifest(data), data)] * 3
    assert len(wire.sent) == 6
    wire.sessions.settle("pi", manifest(data).sha256)
    assert list((wire.folder / "spool").iterdir()) == []


def test_a_damaged_spool_costs_a_second_pull_only(wire: Wire) -> None:
    data = content()
    wire.device.offer(data, manifest(data))
    wire.fetch(data, most=4)
    (path,) = (wire.folder / "spool").iterdir()
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 1
    path.write_bytes(damaged)
    wire.restart()
    wire.fetch(data)
    assert wire.reports == [Received(manifest(data), data)]
    assert len(wire.sent) == 4 + 2 + 6


def test_a_device_that_started_anew_is_asked_again_at_once(wire: Wire) -> None:
    data = content()
    wire.device.offer(data, manifest(data))
    wire.fetch(data, most=2)
    sha256 = manifest(data).sha256
    assert wire.sessions.offered_again("pi", sha256, 0.0, 1) == [], "said again: what was asked for is still on its way"
    wire.talk(wire.sessions.offered_again("pi", sha256, 0.0, 2))
    assert wire.reports == [Received(manifest(data), data)]
    assert len(wire.sent) == 6


def test_a_device_that_does_not_offer_ends_the_pull_itself(wire: Wire) -> None:
    data = content()
    wire.fetch(data)
    (failed,) = wire.reports
    assert isinstance(failed, Failed)
    assert failed.by_peer


def test_chunks_to_a_device_keep_to_the_bandwidth_and_messages_do_not_wait(tmp_path: Path) -> None:
    wire, data = Wire(tmp_path, bandwidth=2048.0), content()
    sha256 = open_blobs(str(tmp_path / "blobs")).put(data)
    wire.sessions.offer("pi", [manifest(data)])
    (pull,) = wire.device.fetch(manifest(data), 0.0, 60.0)
    assert isinstance(pull, Send)
    assert wire.sessions.on_message("pi", pull.message, 0.0) == []
    times: list[float] = []
    now = 0.0

    def tick(now: float) -> None:
        for effect in (effect for _, effects in wire.sessions.tick(now) for effect in effects):
            assert isinstance(effect, SendChunk)
            times.append(now)
            wire.reports += wire.device.on_chunk(effect.payload, now)

    while len(times) < 6:
        due = wire.sessions.due(now)
        assert due is not None
        now = max(now, due)
        tick(now)
    received = next(effect for effect in wire.reports if isinstance(effect, Received))
    assert received.data == data
    assert times[-1] == pytest.approx((SIZE + 6 * 36 - 380 - 36 - 512) / 2048, abs=0.3)
    (committed,) = wire.device.commit(sha256)
    assert isinstance(committed, Send)
    assert wire.sessions.on_message("pi", committed.message, now) == [Delivered(manifest(data))]
    tick(now + 10)
    assert wire.sessions.due(now + 10) is None


def test_what_waits_for_its_turn_takes_no_memory(tmp_path: Path) -> None:
    """Fifty devices ask for all of the same adapter at once."""
    data = content() * 1000
    of_all, devices = make_manifest(data, "cluster", "cluster-0"), [f"device-{number}" for number in range(50)]
    assert len(data) * len(devices) > 100 << 20
    with Wire(tmp_path, bandwidth=1024.0) as wire:
        open_blobs(str(tmp_path / "blobs")).put(data)
        pull = Pull(sha256=of_all.sha256, missing=b"\xff" * 3, credit=of_all.chunks)
        tracemalloc.start()
        for device in devices:
            wire.sessions.offer(device, [of_all])
            assert wire.sessions.on_message(device, pull, 0.0) == []
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert wire.sessions.due(0.0) == 0.0
        assert held < 2 * len(data), "one copy of it, and which chunks wait"


def test_what_is_asked_for_is_paid_for_at_once_and_while_it_waits_not_again(tmp_path: Path) -> None:
    data = content()
    gone: list[tuple[str, int]] = []
    with Wire(tmp_path, bandwidth=1024.0, downloads=5 * 1060 + LEAST) as wire:
        sha256 = open_blobs(str(tmp_path / "blobs")).put(data)
        wire.sessions.offer("pi", [manifest(data)])
        everything = Pull(sha256=sha256, missing=b"\x3f", credit=6)
        for _ in range(3):
            assert wire.sessions.on_message("pi", everything, 0.0) == []
        assert wire.downloads.exceeded(0.0) == []
        gone += [(device, len(effects)) for device, effects in wire.sessions.tick(0.0)]
        assert gone == [("pi", 1)]
        wire.sessions.on_message("pi", everything, 0.0)
        (excess,) = wire.downloads.exceeded(0.0)
        assert (excess.sender, excess.messages) == ("pi", 1), "the one that has gone"


def test_nothing_goes_to_a_device_that_has_left(tmp_path: Path) -> None:
    data = content()
    with Wire(tmp_path, bandwidth=1024.0) as wire:
        sha256 = open_blobs(str(tmp_path / "blobs")).put(data)
        for device in ("pi", "phone"):
            wire.sessions.offer(device, [manifest(data)])
            wire.sessions.on_message(device, Pull(sha256=sha256, missing=b"\x3f", credit=6), 0.0)
        wire.sessions.dismiss("pi")
        gone: list[str] = []
        for second in range(20):
            gone += [device for device, _ in wire.sessions.tick(float(second))]
        assert gone == 6 * ["phone"]
        wire.sessions.on_message("phone", Pull(sha256=sha256, missing=b"\x3f", credit=6), 20.0)
        wire.sessions.withdraw_all_but(set())
        assert wire.sessions.due(20.0) is None
