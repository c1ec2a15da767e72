"""The code that a device keeps, so that no difference of two of them shows single captions."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from edge_sdk.codes import Code, different_pictures
from edge_sdk.codes import kept_code as kept
from edge_sdk.privacy import different_captions

PLACES = ("wood", "field", "town", "barn", "tent", "boat", "cave", "lane", "park", "yard")
CAPTIONS = [f"a fox in a {place}" for place in PLACES]
FIRST = Code("coarse", bytes(16), bytes(32))
OTHER = Code("coarse", b"1" * 16, bytes(32))


def kept_code(file: Path, made: Code, captions: Sequence[str]) -> Code:
    return kept(file, made, different_captions(captions))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "code.json"
    assert kept_code(path, FIRST, CAPTIONS) == FIRST
    return path


@pytest.mark.parametrize(
    "now",
    [
        CAPTIONS,
        [text.upper() + " " for text in CAPTIONS],
        [*CAPTIONS, "an owl"],
        CAPTIONS[1:],
        [*CAPTIONS[3:], "an owl", "a cat", "a cow", "a hen"],
    ],
    ids=["the same", "written otherwise", "one more", "one less", "seven others"],
)
def test_it_is_sent_again_while_few_captions_have_changed(file: Path, now: list[str]) -> None:
    assert kept_code(file, OTHER, now) == FIRST


def test_small_changes_add_up(file: Path) -> None:
    """They are counted from the captions of the code that was sent."""
    for number in range(7):
        assert kept_code(file, OTHER, [*CAPTIONS, *map(str, range(number))]) == FIRST
    assert kept_code(file, OTHER, [*CAPTIONS, *map(str, range(8))]) == OTHER
    assert kept_code(file, FIRST, [*CAPTIONS, *map(str, range(8))]) == OTHER


def test_another_basis_or_level_makes_a_new_one(file: Path) -> None:
    assert kept_code(file, based := Code("coarse", b"2" * 16, b"b" * 32), CAPTIONS) == based
    assert kept_code(file, plain := Code("plain", bytes(8), b""), CAPTIONS) == plain
    assert kept_code(file, more := Code("plain", b"4" * 8, b""), [*CAPTIONS, "an owl"]) == more


def test_it_holds_no_caption_and_is_the_owners_alone(file: Path) -> None:
    assert b"fox" not in file.read_bytes()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_damaged_file_is_replaced(file: Path) -> None:
    file.write_bytes(b"\xff{")
    assert kept_code(file, OTHER, CAPTIONS) == OTHER
    assert kept_code(file, FIRST, CAPTIONS) == OTHER


def test_it_is_the_same_with_pictures(tmp_path: Path) -> None:
    path, images = tmp_path / "picture-code.json", [Image.new("RGB", (4, 4), (shade, 0, 0)) for shade in range(30)]
    assert kept(path, FIRST, different_pictures(images[:10])) == FIRST
    assert kept(path, OTHER, different_pictures([*images[3:14], images[3]])) == FIRST
    assert kept(path, OTHER, different_pictures(images[4:14])) == OTHER


def test_no_code_is_not_kept(file: Path) -> None:
    """Nor is the one that was sent forgotten."""
    assert kept_code(file, none := Code("coarse", b""), CAPTIONS[:3]) == none
    assert kept_code(file, OTHER, CAPTIONS) == FIRST
