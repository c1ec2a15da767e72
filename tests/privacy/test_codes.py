from __future__ import annotations

import numpy as np
import pytest

from edge_sdk.errors import ConfigurationError, PromptError
from edge_sdk.privacy import LEVELS, prompt_code


@pytest.mark.parametrize("level", LEVELS)
def test_similar_captions_give_similar_codes(level: str) -> None:
    rng = np.random.default_rng(0)
    inks, clays = rng.normal(size=(2, 64))
    codes = [prompt_code(taste + 0.5 * rng.normal(size=(12, 64)), level) for taste in (inks, inks, clays)]
    units = [code / np.linalg.norm(code) for code in codes]
    assert units[0] @ units[1] > units[0] @ units[2] + 0.3


@pytest.mark.parametrize("level", LEVELS)
def test_a_code_is_one_float32_vector_and_the_same_every_time(level: str) -> None:
    embeddings = np.random.default_rng(1).normal(size=(5, 32)).astype(np.float32)
    code = prompt_code(embeddings, level)
    assert code.dtype == np.float32
    assert code.ndim == 1
    assert np.array_equal(code, prompt_code(embeddings, level))


def test_every_caption_counts_the_same() -> None:
    a, b = np.eye(2)
    assert np.allclose(prompt_code(np.stack([1000 * a, b])), [0.5, 0.5])


def test_an_unknown_level_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"'secret'.*plain"):
        prompt_code(np.ones((1, 4)), "secret")


@pytest.mark.parametrize(
    "embeddings",
    [np.empty((0, 4)), np.ones(4), np.array([[np.nan, 1.0]]), np.zeros((1, 4))],
    ids=["none", "one dimension", "nan", "zero"],
)
def test_embeddings_that_make_no_code_are_refused(embeddings: np.ndarray) -> None:
    with pytest.raises(PromptError):
        prompt_code(embeddings)
