"""The tokenizer against transformers' CLIPTokenizer, and what it says of prompts that it cannot use."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AddedToken, CLIPTokenizer, CLIPTokenizerFast

from edge_sdk.errors import BundleCorrupt, PromptError
from edge_sdk.inference.sampling.tokenizer import PromptTruncated, Tokenizer
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
    with pytest.raises(BundleCorrupt, match="or export the bundle again"):
        Tokenizer(folder)


def test_a_tokenizer_of_transformers_5_alone_is_told_how_to_become_one(tmp_path: Path) -> None:
    """As the message says it."""
    folder = shutil.copytree(tiny_model("epsilon") / "tokenizer", tmp_path / "tokenizer")
    expected = Tokenizer(folder).encode(PROMPTS).ids
    fast = CLIPTokenizerFast.from_pretrained(folder)
    fast.save_pretrained(folder)
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()
    with pytest.raises(BundleCorrupt, match=r"no vocab\.json and no merges\.txt.*\.json alone.*save_vocabulary"):
        Tokenizer(folder)
    CLIPTokenizerFast.from_pretrained(folder).save_vocabulary(str(folder))
    np.testing.assert_array_equal(Tokenizer(folder).encode(PROMPTS).ids, expected)


ADDED = [
    "<cat-toy> in a bowl", "a<cat-toy>b <Cat-Toy> <CAT-toy>", "a  <cat-toy>\tfox", "one <Special>thing", "w <W> x<W>y",
    "a<S>b <S> c", "fox " * 73 + "<cat-toy> <cat-toy> <cat-toy>", "a fox! !",
]  # fmt: skip


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer with tokens of every kind added, as textual inversion and special prompts have them."""
    folder = tmp_path_factory.mktemp("added")
    theirs = CLIPTokenizer.from_pretrained(tiny_model("epsilon") / "tokenizer", pad_token="!")
    theirs.add_tokens(["<cat-toy>", "<Cat-Toy>"])
    theirs.add_special_tokens({"additional_special_tokens": ["<Special>"]})
    theirs.add_tokens([AddedToken("<W>", lstrip=True, rstrip=True), AddedToken("<S>", single_word=True)])
    theirs.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def legacy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of before transformers 4.34, as Stable Diffusion 2 is: other files, which override the configuration."""
    folder = shutil.copytree(tiny_model("epsilon") / "tokenizer", tmp_path_factory.mktemp("legacy") / "tokenizer")
    stated = json.loads((folder / "tokenizer_config.json").read_text())
    kept = {key: value for key, value in stated.items() if key not in ("added_tokens_decoder", "model_max_length")}
    (folder / "tokenizer_config.json").write_text(json.dumps(kept))
    count = len(json.loads((folder / "vocab.json").read_text()))
    (folder / "added_tokens.json").write_text(json.dumps({"<cat-toy>": count, "<W>": count + 1}))
    start = {"content": "<|startoftext|>", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    specials = {"bos_token": start, "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": "!"}
    (folder / "special_tokens_map.json").write_text(json.dumps(specials))
    return folder


@pytest.mark.parametrize("kind", ["added", "legacy"])
def test_added_tokens_are_those_of_clip_tokenizer(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    theirs = CLIPTokenizer.from_pretrained(folder)
    ours = Tokenizer(folder, longest=77)
    assert ours.size == len(theirs)
    for text in [*ADDED, *PROMPTS]:
        expected = theirs(text, padding="max_length", max_length=77, truncation=True).input_ids
        assert ours.encode([text]).ids[0].tolist() == expected, text


def test_a_tokenizer_is_as_long_as_the_text_encoder_reads(legacy: Path, added: Path) -> None:
    assert Tokenizer(added).length == 77
    assert Tokenizer(added, longest=20).length == 20
    assert Tokenizer(legacy, longest=20).length == 20
    with pytest.raises(BundleCorrupt, match="its model_max_length is None"):
        Tokenizer(legacy)


@pytest.mark.parametrize(
    "stated",
    [
        {"padding_side": "left"},
        {"truncation_side": "left"},
        {"tokenizer_class": "T5Tokenizer"},
        {"do_lower_case": False},
        {"model_max_length": 10**30},
        {"added_tokens_decoder": {"10000": {"content": "<far>"}}},
        {"added_tokens_decoder": {"first": {"content": "<near>"}}},
        {"pad_token": "<none>", "added_tokens_decoder": 3},
    ],
)
def test_what_a_tokenizer_asks_for_and_ours_does_not_do_is_refused(
    added: Path, stated: dict[str, object], tmp_path: Path
) -> None:
    folder = shutil.copytree(added, tmp_path / "tokenizer")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | stated))
    with pytest.raises(BundleCorrupt, match="cannot be used"):
        Tokenizer(folder)
