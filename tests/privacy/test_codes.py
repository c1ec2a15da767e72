from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest

from edge_sdk.errors import ConfigurationError, PromptError
from edge_sdk.privacy import DEFAULT, DIMENSIONS, LEVELS, Basis, Coarse, basis_id, make_basis, prompt_code
from edge_sdk.privacy.coarse import STEPS
from edge_sdk.privacy.codes import unit_length

DIM = 48
LETTERS = "abcdefghijklmnop"
PUBLIC = [f"style{number}" for number in range(40)]
WORDS = {word: number for number, word in enumerate([*LETTERS, "ink", "clay", *PUBLIC])}


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
    public = [captions(style, 6, 3 * number) for number, style in enumerate(PUBLIC)]
    return make_basis([unit_length(encoder, style) for style in public], basis_id("encoder", public))


@pytest.fixture
def by_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes are rounded to the nearest step."""
    monkeypatch.setattr("secrets.token_bytes", lambda count: b"\x00\x00\x00\x80" * (count // 4))


@pytest.mark.parametrize("level", LEVELS)
def test_similar_captions_give_similar_codes(level: str, basis: Basis) -> None:
    given = captions("ink", 12), captions("ink", 12, 40), captions("clay", 12)
    codes = [LEVELS[level].decode(prompt_code(texts, encoder, level, basis)) for texts in given]
    assert np.linalg.norm(codes[0] - codes[1]) < 0.8 * np.linalg.norm(codes[0] - codes[2])


@pytest.mark.parametrize("level", LEVELS)
def test_a_code_has_its_size_whatever_the_order(level: str, basis: Basis, by_half: None) -> None:
    code = prompt_code(captions("ink", 9), encoder, level, basis)
    assert len(code) == {"plain": 4 * DIM}.get(level, 16)
    assert LEVELS[level].size(DIM) == (len(code) if LEVELS[level].leaves else 0)
    assert code == prompt_code(captions("ink", 9)[::-1], encoder, level, basis)


def test_only_steps_beside_the_place_are_taken_and_none_is_favoured(basis: Basis) -> None:
    """The mean of many codes, which nobody gets, is the place itself."""
    vectors = unit_length(encoder, captions("ink", 9))
    place = STEPS * basis.place(vectors.mean(axis=0))
    codes = np.array([np.frombuffer(Coarse().encode(vectors, basis), np.int8) for _ in range(4000)])
    assert np.all((codes == np.floor(place)) | (codes == np.ceil(place)))
    assert codes.mean(axis=0) == pytest.approx(place, abs=0.05)  # six standard errors


def test_the_system_rounds(basis: Basis, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = unit_length(encoder, captions("ink", 9))
    place = STEPS * basis.place(vectors.mean(axis=0))
    for byte, expected in ((b"\x00", np.floor(place)), (b"\xff", np.ceil(place))):
        monkeypatch.setattr("secrets.token_bytes", lambda count, byte=byte: byte * count)
        assert np.frombuffer(LEVELS["coarse"].encode(vectors, basis), np.int8).tolist() == expected.tolist()


@pytest.mark.parametrize("steps", [STEPS, 127])
def test_the_farthest_place_fits_a_byte(basis: Basis, steps: int) -> None:
    for sign, expected in ((1.0, steps), (-1.0, -steps)):
        far = np.array([basis.mean + sign * 9.0 * basis.radius * np.linalg.pinv(basis.axes)[:, 0]])
        code = np.frombuffer(Coarse(steps, lambda count: np.full(count, 0.5)).encode(far, basis), np.int8)
        assert code.tolist() == [expected, *[0] * (DIMENSIONS - 1)]


def test_the_default_is_coarse() -> None:
    assert DEFAULT == "coarse"
    assert LEVELS["plain"].size(None) is None


def test_every_caption_counts_the_same() -> None:
    plain = np.frombuffer(prompt_code(["a", "b b b"], encoder, "plain"), "<f4")
    assert np.allclose(plain, unit_length(encoder, ["a", "b b b"]).mean(axis=0))


def test_equal_captions_count_once(basis: Basis, by_half: None) -> None:
    """Or a device with one caption often would give it away."""
    eight = captions("ink", 8)
    code = prompt_code(eight, encoder, basis=basis)
    assert code == prompt_code([*eight, *[eight[0].upper(), f" {eight[0]}  "] * 5], encoder, basis=basis)
    with pytest.raises(PromptError, match=r"at least 8 different captions.*the pictures have 7.*Add pictures"):
        prompt_code(eight[:7] * 4, encoder, basis=basis)


def test_a_coarse_code_is_what_the_protocol_says(basis: Basis, by_half: None) -> None:
    """By hand, as in docs/protocol.md."""
    mean = unit_length(encoder, captions("clay", 10)).mean(axis=0)
    numbers = (mean - basis.mean) @ basis.axes.T / basis.radius
    assert np.linalg.norm(numbers) < 1
    code = prompt_code(captions("clay", 10), encoder, "coarse", basis)
    assert np.frombuffer(code, np.int8).tolist() == np.floor(STEPS * numbers + 0.5).tolist()
    assert LEVELS["coarse"].decode(code) == pytest.approx(numbers, abs=0.51 / STEPS)


def test_a_coarse_code_is_no_longer_than_the_radius(basis: Basis) -> None:
    small = Basis(basis.id, basis.mean, basis.axes, basis.radius / 100)
    place = LEVELS["coarse"].decode(prompt_code(captions("ink", 10), encoder, basis=small))
    assert np.linalg.norm(place) == pytest.approx(1.0, abs=0.3)
    assert np.linalg.norm(place) < 1.0 + 1e-9
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
