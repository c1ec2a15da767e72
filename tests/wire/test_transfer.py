"""One transfer: reassembly under any order, loss and duplication; refusal of what does not fit."""

from __future__ import annotations

import hashlib
import mmap
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import TransferError
from edge_sdk.wire.messages import MAX_CHUNK, Manifest, Pull
from edge_sdk.wire.transfer import Receiver, Sender, decode_chunk, encode_chunk, make_manifest

contents = st.builds(
    lambda size, seed: hashlib.shake_128(seed).digest(size), st.integers(1, 20_000), st.binary(max_size=8)
)


@given(contents, st.integers(1, 64), st.data())
def test_reassembly_under_any_order_loss_and_duplication(content: bytes, credit: int, data: st.DataObject) -> None:
    manifest = make_manifest(content, "update", "x", chunk_size=1024)
    sender, receiver = Sender(content, manifest), Receiver(manifest, credit=credit)
    air: list[bytes] = sender.on_pull(receiver.pull() or pytest.fail("nothing to pull"))
    while not receiver.done:
        if not air:  # silence
            again = receiver.pull()
            assert again is not None
            assert 1 <= again.credit <= credit
            air = sender.on_pull(again)
        position = data.draw(st.integers(0, len(air) - 1))
        fate = data.draw(st.sampled_from(["arrive", "arrive", "arrive", "twice", "lost"]))
        payload = air[position] if fate == "twice" else air.pop(position)
        if fate != "lost":
            pull = receiver.on_chunk(payload)
            if pull is not None:
                air += sender.on_pull(pull)
        assert len(air) <= 3 * credit
    assert receiver.result() == content
    assert receiver.pull() is None


@given(contents, st.sets(st.integers(0, 19)))
def test_resumes_from_the_bitmap_and_pulls_only_what_is_missing(content: bytes, early: set[int]) -> None:
    manifest = make_manifest(content, "update", "x", chunk_size=1024)
    sender, first = Sender(content, manifest), Receiver(manifest, credit=64)
    pull = first.pull()
    assert pull is not None
    for payload in sender.on_pull(pull):
        if decode_chunk(payload).index in early:
            first.on_chunk(payload)

    second = Receiver(manifest, credit=64, have=first.bitmap, buffer=first.buffer)
    assert second.received == first.received
    pull = second.pull()
    if pull is not None:
        sent = sender.on_pull(pull)
        assert {decode_chunk(payload).index for payload in sent} == set(range(manifest.chunks)) - early
        for payload in sent:
            second.on_chunk(payload)
    assert second.result() == content


def test_a_window_is_never_exceeded_and_never_runs_dry() -> None:
    content = bytes(100 * 1024)
    manifest = make_manifest(content, "root", "x", chunk_size=1024)
    sender, receiver = Sender(content, manifest), Receiver(manifest, credit=8)
    pull = receiver.pull()
    assert pull is not None
    air = sender.on_pull(pull)
    sent = len(air)
    while air:
        assert len(air) <= 8
        pull = receiver.on_chunk(air.pop(0))
        if pull is not None:
            more = sender.on_pull(pull)
            sent += len(more)
            air += more
    assert receiver.done
    assert sent == 100  # each chunk once


def test_a_chunk_fills_a_hosted_brokers_limit_and_no_more() -> None:
    content = bytes(300_000)
    manifest = make_manifest(content, "root", "x")
    pull = Receiver(manifest).pull()
    assert pull is not None
    assert max(map(len, Sender(content, manifest).on_pull(pull))) == MAX_CHUNK


def test_the_sender_can_read_from_a_file() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"abc" * 1000)
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            manifest = make_manifest(content, "root", "x", chunk_size=1024)
            receiver = Receiver(manifest)
            pull = receiver.pull()
            assert pull is not None
            for payload in Sender(content, manifest).on_pull(pull):
                receiver.on_chunk(payload)
    assert receiver.result() == b"abc" * 1000


def test_a_manifest_over_the_limit_is_refused_before_memory_is_taken() -> None:
    huge = Manifest(role="root", name="x", sha256="0" * 64, size=2**31 - 1, chunk_size=128 * 1024 - 36)
    with pytest.raises(TransferError, match="more than the 1000"):
        Receiver(huge, max_size=1000)


def test_content_that_is_not_what_the_manifest_says_is_refused() -> None:
    manifest = make_manifest(b"right", "root", "x")
    receiver = Receiver(manifest)
    with pytest.raises(TransferError, match="missing"):
        receiver.result()
    receiver.on_chunk(encode_chunk(manifest.sha256, 0, b"wrong"))
    with pytest.raises(TransferError, match="hash"):
        receiver.result()
    with pytest.raises(TransferError, match="bytes"):
        Sender(b"longer", manifest)


@given(st.binary(max_size=200))
def test_garbage_is_refused_and_changes_nothing(payload: bytes) -> None:
    manifest = make_manifest(bytes(3000), "root", "x", chunk_size=1024)
    receiver = Receiver(manifest)
    with pytest.raises(TransferError):
        receiver.on_chunk(payload)
    assert receiver.received == 0


@pytest.mark.parametrize(
    ("sha256", "index", "size"),
    [("f" * 64, 0, 1024), (None, 3, 1024), (None, 2**32 - 1, 1), (None, 0, 1023), (None, 2, 1024), (None, 0, 1025)],
)
def test_chunks_that_contradict_the_manifest_are_refused(sha256: str | None, index: int, size: int) -> None:
    manifest = make_manifest(bytes(3000), "root", "x", chunk_size=1024)
    receiver = Receiver(manifest)
    with pytest.raises(TransferError):
        receiver.on_chunk(encode_chunk(sha256 or manifest.sha256, index, bytes(size)))
    assert receiver.received == 0


@pytest.mark.parametrize(
    "pull", [Pull(sha256="f" * 64, missing=b"\x01", credit=1), Pull(sha256="", missing=b"\x08", credit=1)]
)
def test_pulls_for_what_there_is_not_are_refused(pull: Pull) -> None:
    content = bytes(3000)
    manifest = make_manifest(content, "root", "x", chunk_size=1024)
    if not pull.sha256:
        pull = Pull(sha256=manifest.sha256, missing=pull.missing, credit=1)
    with pytest.raises(TransferError):
        Sender(content, manifest).on_pull(pull)


@pytest.mark.parametrize(("size", "chunk_size"), [(0, 1024), (2**20 * 600, 1024), (5000, 1023), (5000, MAX_CHUNK)])
def test_no_manifest_for_nothing_for_too_many_chunks_or_for_chunks_of_a_wrong_size(size: int, chunk_size: int) -> None:
    with tempfile.TemporaryFile() as file:
        file.truncate(max(size, 1))
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content, pytest.raises(TransferError):
            make_manifest(content if size else b"", "root", "x", chunk_size)
