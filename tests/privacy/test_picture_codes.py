"""Picture codes of devices."""

from __future__ import annotations

import numpy as np
import pytest

from edge_sdk.errors import ConfigurationError, PictureError
from edge_sdk.privacy import LEAVING, LEVELS, Level, picture_code

PLAIN, COARSE = LEVELS["plain"], LEVELS["coarse"]


def embeddings(pictures: int = 8, dimensions: int = 40) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(pictures, dimensions)) + np.linspace(-9, 9, dimensions)


def test_a_plain_code_is_the_mean_embedding() -> None:
    given = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 5.0]], np.float32)
    assert picture_code(given, "plain") == np.array([2.0, 2.0, 4.0], "<f4").tobytes()
    assert picture_code(given[:1], "plain") == given[0].tobytes()
    assert PLAIN.decode_pictures(picture_code(given, "plain")).tolist() == [2.0, 2.0, 4.0]
    huge = np.full((3, 2), 3e38, np.float32)
    assert np.isfinite(PLAIN.decode_pictures(picture_code(huge, "plain"))).all()


def test_a_coarse_code_is_what_the_protocol_says() -> None:
    """By hand, as in docs/protocol.md: the first 32 numbers, in quarters, a signed byte each."""
    given = embeddings()
    code = picture_code(given)
    assert np.frombuffer(code, np.int8).tolist() == np.rint(4 * given.mean(axis=0))[:32].tolist()
    assert COARSE.decode_pictures(code) == pytest.approx(given.mean(axis=0)[:32], abs=0.126)


def test_a_coarse_code_ends_at_the_radius() -> None:
    given = np.full((8, 3), 1e30) * [1.0, -1.0, 0.0]
    assert COARSE.decode_pictures(picture_code(given)).tolist() == [31.75, -31.75, 0.0]
    assert np.isfinite(COARSE.decode_pictures(bytes(range(256)))).all()


@pytest.mark.parametrize("dimensions", [1, 5, 32, 512])
def test_a_code_has_its_size(dimensions: int) -> None:
    for level in LEAVING.values():
        code = picture_code(embeddings(9, dimensions), level.name)
        assert len(code) == level.picture_size(dimensions)
        assert len(level.decode_pictures(code)) == min(dimensions, 32 if level is COARSE else dimensions)


def test_of_few_pictures_there_is_no_coarse_code() -> None:
    assert picture_code(embeddings(7)) == b""
    assert picture_code(embeddings(8)) != b""
    assert picture_code(embeddings(1), "plain") != b""


@pytest.mark.parametrize("level", LEVELS.values(), ids=lambda level: level.name)
def test_a_level_says_what_it_shows(level: Level) -> None:
    assert level.shows_pictures.endswith(".") is level.leaves
    assert level.hides_not.endswith(".")


def test_level_local_sends_no_code_of_any_size() -> None:
    assert [LEVELS["local"].picture_size(dimensions) for dimensions in (1, 32, 512)] == [0, 0, 0]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    "given", [np.ones((0, 4)), np.ones(4), np.array([[1.0, np.nan]] * 9), np.array([[np.inf, 1.0]] * 9)]
)
def test_what_makes_no_code_is_refused(given: np.ndarray, level: str) -> None:
    with pytest.raises(PictureError):
        picture_code(given, level)


def test_an_unknown_level_is_named() -> None:
    with pytest.raises(ConfigurationError, match="no privacy level 'none'"):
        picture_code(embeddings(), "none")
