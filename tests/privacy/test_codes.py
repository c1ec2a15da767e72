from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest

from edge_sdk.errors import ConfigurationError, PromptError
from edge_sdk.privacy import DEFAULT, DIMENSIONS, LEVELS, Basis, basis_id, make_basis, prompt_code
from edge_sdk.privacy.codes import unit_length

DIM = 48
LETTERS = "abcdefghijklmnop"
WORDS = {word: number for number, word in enumerate([*LETTERS, "ink", "clay"])}


def encoder(captions: Sequence[str]) -> np.ndarray:
    """The sum of a direction for each word, and one that all captions share; lengths differ."""
    directions = np.random.default_rng(0).normal(size=(len(WORDS) + 1, DIM))
    rows = [directions[[-1, *(WORDS[word] for word in text.lower().split())]].sum(axis=0) for text in captions]
    return 3.0 * np.stack(rows)


def captions(style: str, count: int, first: int = 0) -> list[str]:
    pairs = [f"{style} {one} {other}" for one in LETTERS for other in LETTERS if one < other]
    random.Random(0).shuffle(pairs)
    return pairs[first : first + count]


@pytest.fixture(scope="module")
def basis() -> Basis:
    public = [*captions("ink", 60), *captions("clay", 60)]
    return make_basis(unit_length(encoder, public), basis_id("encoder", public))


@pytest.mark.parametrize("level", LEVELS)
def test_similar_captions_give_similar_codes(level: str, basis: Basis) -> None:
    given = captions("ink", 12), captions("ink", 12, 40), captions("clay", 12)
    codes = [LEVELS[level].decode(prompt_code(texts, encoder, level, basis)) for texts in given]
    assert np.linalg.norm(codes[0] - codes[1]) < 0.8 * np.linalg.norm(codes[0] - codes[2])


@pytest.mark.parametrize("level", LEVELS)
def test_a_code_has_its_size_and_is_the_same_every_time(level: str, basis: Basis) -> None:
    code = prompt_code(captions("ink", 9), encoder, level, basis)
    assert len(code) == LEVELS[level].size(DIM) == {"plain": 4 * DIM, "coarse": 16}[level]
    assert code == prompt_code(captions("ink", 9)[::-1], encoder, level, basis)


def test_the_default_is_coarse() -> None:
    assert DEFAULT == "coarse"
    assert LEVELS["plain"].size(None) is None


def test_every_caption_counts_the_same() -> None:
    plain = np.frombuffer(prompt_code(["a", "b b b"], encoder, "plain"), "<f4")
    assert np.allclose(plain, unit_length(encoder, ["a", "b b b"]).mean(axis=0))


def test_equal_captions_count_once(basis: Basis) -> None:
    """Or a device with one caption often would give it away."""
    eight = captions("ink", 8)
    code = prompt_code(eight, encoder, basis=basis)
    assert code == prompt_code([*eight, *[eight[0].upper(), f" {eight[0]}  "] * 5], encoder, basis=basis)
    with pytest.raises(PromptError, match=r"at least 8 different captions.*the pictures have 7.*Add pictures"):
        prompt_code(eight[:7] * 4, encoder, basis=basis)


def test_a_coarse_code_is_what_the_protocol_says(basis: Basis) -> None:
    """By hand, as in docs/protocol.md."""
    mean = unit_length(encoder, captions("clay", 10)).mean(axis=0)
    numbers = (mean - basis.mean) @ basis.axes.T / basis.radius
    assert np.linalg.norm(numbers) < 1
    code = prompt_code(captions("clay", 10), encoder, "coarse", basis)
    assert np.frombuffer(code, np.int8).tolist() == np.rint(7 * numbers).tolist()
    assert LEVELS["coarse"].decode(code) == pytest.approx(numbers, abs=0.51 / 7)


def test_a_coarse_code_is_no_longer_than_the_radius(basis: Basis) -> None:
    small = Basis(basis.id, basis.mean, basis.axes, basis.radius / 100)
    place = LEVELS["coarse"].decode(prompt_code(captions("ink", 10), encoder, basis=small))
    assert np.linalg.norm(place) == pytest.approx(1.0, abs=0.15)
    assert np.linalg.norm(LEVELS["coarse"].decode(b"\x7f" * DIMENSIONS)) == pytest.approx(1.0)


def test_a_bundle_without_a_basis_is_to_be_exported_again() -> None:
    with pytest.raises(ConfigurationError, match=r"exported by an earlier version.*impasto-export"):
        prompt_code(captions("ink", 9), encoder, "coarse", None)
    assert prompt_code(captions("ink", 9), encoder, "plain", None)


def test_a_basis_of_another_encoder_is_refused(basis: Basis) -> None:
    other = Basis(basis.id, basis.mean[:20], basis.axes[:, :20], 1.0)
    with pytest.raises(ConfigurationError, match="another text encoder, of 20 dimensions, not 48"):
        prompt_code(captions("ink", 9), encoder, basis=other)


def test_an_unknown_level_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"'secret'.*plain, coarse"):
        prompt_code(["a"], encoder, "secret")


@pytest.mark.parametrize("level", LEVELS.values(), ids=lambda level: level.name)
def test_a_level_says_what_it_does_not_hide(level: object) -> None:
    assert getattr(level, "hides_not", "").endswith(".")


@pytest.mark.parametrize(
    "embeddings",
    [np.empty((0, 4)), np.ones(4), np.array([[np.nan, 1.0]]), np.zeros((1, 4))],
    ids=["none", "one dimension", "nan", "zero"],
)
def test_embeddings_that_make_no_code_are_refused(embeddings: np.ndarray) -> None:
    with pytest.raises(PromptError):
        prompt_code(["a"], lambda texts: embeddings, "plain")
    with pytest.raises(PromptError):
        prompt_code([], encoder, "plain")
