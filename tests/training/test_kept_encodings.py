"""Encodings on disk: for the owner's eyes, made once, and of nobody else's pictures."""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from pathlib import Path

import pytest
import torch

from edge_sdk.training import Trainer
from edge_sdk.training.base_model import stored_weights
from edge_sdk.training.encoding import Encoded, encode, encoders, gather
from edge_sdk.training.encoding.kept import UNUSED, KeptEncodings
from tests.models import tiny_model
from tests.training.samples import squares


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def encoded(cache: Path, pictures: int = 3, base_id: str = "base") -> Encoded:
    return encode(tiny_model(), gather(squares(pictures), 32), True, KeptEncodings(base_id, cache))


def equal(one: Encoded, other: Encoded) -> bool:
    return all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in ("latents", "mirrored", "prompts", "empty_prompt")
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of captions and of pictures that the networks are asked for, call by call."""
    found: list[int] = []
    for name in ("_encode_texts", "_encode_pixels"):
        usual = getattr(encoders, name)

        def counted(model: Path, given: list[str], usual: object = usual) -> torch.Tensor:
            found.append(len(given))
            return usual(model, given)  # type: ignore[operator, no-any-return]

        monkeypatch.setattr(encoders, name, counted)
    return found


def test_what_is_kept_is_not_encoded_again(cache: Path, asked: list[int]) -> None:
    first = encoded(cache)
    assert asked == [4, 6]  # with the empty caption, and mirrored
    assert equal(encoded(cache), first)
    assert asked == [4, 6]
    assert equal(encode(tiny_model(), gather(squares(3), 32), True), first)
    asked.clear()
    encoded(cache, pictures=4)
    assert asked == [1, 2]
    encoded(cache, base_id="another")
    assert asked[2:] == [4, 6]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other rights")
def test_only_the_owner_may_read_them(cache: Path) -> None:
    before = os.umask(0)
    try:
        encoded(cache)
    finally:
        os.umask(before)
    files = list((cache / "encoded").iterdir())
    assert len(files) == 10
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE((cache / "encoded").stat().st_mode) == 0o700


@pytest.mark.parametrize("content", [b"", b"damaged", b"\x02\0\0\0\0\0\0\0{}"])
def test_a_damaged_file_is_encoded_again(cache: Path, asked: list[int], content: bytes) -> None:
    first = encoded(cache)
    asked.clear()
    for file in (cache / "encoded").iterdir():
        file.write_bytes(content)
    assert equal(encoded(cache), first)
    assert equal(encoded(cache), first)
    assert asked == [4, 6]


def test_those_that_nobody_uses_are_deleted(cache: Path) -> None:
    encoded(cache, pictures=1)
    old = set((cache / "encoded").iterdir())
    for file in old:
        os.utime(file, (0, time.time() - UNUSED - 60))
    encoded(cache, pictures=1)  # used again, so that they are kept
    assert set((cache / "encoded").iterdir()) == old
    for file in old:
        os.utime(file, (0, time.time() - UNUSED - 60))
    encoded(cache, pictures=1, base_id="another")
    assert not old & set((cache / "encoded").iterdir())


def test_a_cache_that_cannot_be_written_costs_nothing(cache: Path, asked: list[int]) -> None:
    cache.write_text("a file where the folder should be")
    first = encoded(cache)
    assert equal(encoded(cache), first)
    assert asked == [4, 6, 4, 6]


def test_what_is_kept_is_read_where_nothing_can_be_written(
    cache: Path, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk that has become read-only, which a test by root has to play."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    first = encoded(cache)
    monkeypatch.setattr(os, "utime", refuse)
    assert equal(encoded(cache), first)
    assert asked == [4, 6]


def test_a_trainer_of_a_large_model_keeps_them(cache: Path, asked: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_weights, "SMALL", 0)
    results = [Trainer(tiny_model(), squares(2), threads=1, cache=cache).evaluate() for _ in range(2)]
    assert asked == [3, 4]
    assert results[0] == results[1] == Trainer(tiny_model(), squares(2), threads=1).evaluate()
