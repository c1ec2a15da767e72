"""The tokenizer against transformers' CLIPTokenizer, and what it says of prompts that it cannot use."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from edge_sdk.errors import BundleCorrupt, PromptError
from edge_sdk.inference.tokenizer import PromptTruncated, Tokenizer
from tests.models import KINDS, Kind, tiny_model

PROMPTS = [
    "",
    " ",
    "a red fox",
    "A Photo of  an\tApple,\nwith LEAVES!!! (masterpiece:1.2)",
    "it's the cat's 3rd day, they've said: don't",
    "naïve café, Ünïcödé, ÇA VA, e\u0301tude",
    "狐狸 и лиса, αλεπού",
    "🦊🔥 emoji 👩‍👩‍👧",
    "bell\x07 zero\u200bwidth nbsp\u00a0end",
    "<|endoftext|> inside <|startoftext|> of a prompt",
    "under_score #hash 100% $5.99 a/b\\c",
    "fox " * 100,
]
ALPHABET = "abcXYZ 0129 .,!?'’-_()éÉñßøæçłжЖ狐狸🦊\t\n\u00a0"


@functools.cache
def both(kind: Kind) -> tuple[Tokenizer, CLIPTokenizer]:
    folder = tiny_model(kind) / "tokenizer"
    return Tokenizer(folder), CLIPTokenizer.from_pretrained(folder)


def assert_equal(kind: Kind, text: str) -> None:
    ours, theirs = both(kind)
    expected = theirs(text, padding="max_length", truncation=True, return_tensors="np").input_ids
    np.testing.assert_array_equal(ours.encode([text]).ids, expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", PROMPTS)
def test_equals_clip_tokenizer(kind: Kind, text: str) -> None:
    assert_equal(kind, text)


@given(st.text(st.sampled_from(ALPHABET), max_size=60))
@settings(max_examples=300, deadline=None)
def test_equals_clip_tokenizer_on_any_text(text: str) -> None:
    assert_equal("epsilon", text)


def test_pads_with_the_token_that_the_model_states(tmp_path: Path) -> None:
    theirs = CLIPTokenizer.from_pretrained(tiny_model("epsilon") / "tokenizer", pad_token="!")
    theirs.save_pretrained(tmp_path)
    ids = Tokenizer(tmp_path).encode(["a fox"]).ids
    np.testing.assert_array_equal(ids, theirs("a fox", padding="max_length", return_tensors="np").input_ids)
    assert ids[0, -1] == theirs.pad_token_id != theirs.eos_token_id


def test_the_mask_ends_with_the_first_end_token() -> None:
    tokens = both("epsilon")[0].encode(["", "a fox", "fox " * 100])
    # Start and end; start, two words, end; everything.
    assert tokens.mask.sum(axis=1).tolist() == [2, 4, 77]
    assert tokens.cut[:2] == ("", "")


def test_says_what_is_cut() -> None:
    ours, _ = both("v_prediction")
    # 32 tokens are a start, 30 words and an end.
    text = " ".join(["a"] * 30) + " Café, with the MOON"
    assert ours.encode([text]).cut == ("Café, with the MOON",)
    assert ours.encode([" ".join(["a"] * 30)]).cut == ("",)


def test_the_warning_quotes_a_long_rest_in_part() -> None:
    warning = PromptTruncated("x" * 1000, 77)
    assert warning.cut == "x" * 1000
    assert "77 tokens" in str(warning)
    assert len(str(warning)) < 200


@pytest.mark.parametrize("text", ["half a fox \ud83e", None, 3, b"a fox"])
def test_what_is_no_text_is_refused(text: str) -> None:
    with pytest.raises(PromptError):
        both("epsilon")[0].encode([text])


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [None, b"[1, 2]", b"\xff\xfe"])
def test_broken_files_are_refused(tmp_path: Path, name: str, content: bytes | None) -> None:
    folder = shutil.copytree(tiny_model("epsilon") / "tokenizer", tmp_path / "tokenizer")
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(BundleCorrupt, match="export the bundle again"):
        Tokenizer(folder)
