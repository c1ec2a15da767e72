"""The code that a device keeps, so that no difference of two of them shows single captions."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from edge_sdk.codes import PromptCode, kept_code

PLACES = ("wood", "field", "town", "barn", "tent", "boat", "cave", "lane", "park", "yard")
CAPTIONS = [f"a fox in a {place}" for place in PLACES]
FIRST = PromptCode("coarse", bytes(16), bytes(32))
OTHER = PromptCode("coarse", b"1" * 16, bytes(32))


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
    assert kept_code(file, based := PromptCode("coarse", b"2" * 16, b"b" * 32), CAPTIONS) == based
    assert kept_code(file, plain := PromptCode("plain", bytes(8), b""), CAPTIONS) == plain
    assert kept_code(file, more := PromptCode("plain", b"4" * 8, b""), [*CAPTIONS, "an owl"]) == more


def test_it_holds_no_caption_and_is_the_owners_alone(file: Path) -> None:
    assert b"fox" not in file.read_bytes()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_damaged_file_is_replaced(file: Path) -> None:
    file.write_bytes(b"\xff{")
    assert kept_code(file, OTHER, CAPTIONS) == OTHER
    assert kept_code(file, FIRST, CAPTIONS) == OTHER
