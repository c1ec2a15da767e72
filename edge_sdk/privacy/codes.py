"""Prompt codes: one vector per device, made of its captions, by which the coordinator finds similar tastes.

A level is a function from the device's unit-length prompt embeddings, shape (n, dim), to one code, shape (k,).
A new level is one function and one line in `LEVELS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from edge_sdk.errors import ConfigurationError, PromptError

Code = npt.NDArray[np.float32]
Level = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]


def _plain(embeddings: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The mean direction, in clear: anybody with the text encoder can search for prompts near it. For tests only."""
    mean: npt.NDArray[np.float64] = embeddings.mean(axis=0)
    return mean


LEVELS: Mapping[str, Level] = {"plain": _plain}


def prompt_code(embeddings: npt.ArrayLike, level: str = "plain") -> Code:
    """Return the prompt code of a device, shape (k,), float32.

    Args:
        embeddings: one text embedding per caption, shape (n, dim), as `Generator.encode_prompt` returns them. Each is
            scaled to unit length first, so that every caption counts the same.
        level: a key of `LEVELS`.

    Raises:
        ConfigurationError: there is no such level.
        PromptError: no embedding, or one that is not finite or zero.
    """
    if level not in LEVELS:
        raise ConfigurationError(f"There is no privacy level {level!r}. Choose one of: {', '.join(LEVELS)}.")
    vectors = np.asarray(embeddings, dtype=np.float64)
    if vectors.ndim != 2 or not vectors.size:
        raise PromptError(f"A prompt code needs embeddings of shape (captions, dim), not {vectors.shape}.")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or not lengths.all():
        raise PromptError("A caption's embedding is zero or not finite. Check the bundle's text encoder.")
    return LEVELS[level](vectors / lengths).astype(np.float32)
