"""Prompt codes: a few bytes per device, made of its captions, by which the coordinator finds similar tastes.

The way is the same for every text encoder: captions -> embeddings -> unit length -> level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edge_sdk.errors import ConfigurationError, PromptError
from edge_sdk.privacy.basis import Basis, Matrix
from edge_sdk.privacy.levels import DEFAULT, level_named

Encoder: TypeAlias = Callable[[Sequence[str]], npt.ArrayLike]
"""Text encoder: n captions -> embeddings (n, dim), of any length but zero."""
# Captions that are encoded together, so that memory does not grow with their number.
_TOGETHER = 32


def prompt_code(captions: Sequence[str], encoder: Encoder, level: str = DEFAULT, basis: Basis | None = None) -> bytes:
    """Return the prompt code of a device, as it is sent.

    Captions that differ only in case or white space count once, and every caption counts the same.

    Args:
        captions: the captions of the device's pictures.
        encoder: the text encoder, the same on all devices of a federation.
        level: a key of `LEVELS`.
        basis: the public basis of this encoder, for levels that need it.

    Raises:
        ConfigurationError: there is no such level, or it needs a basis and none is given.
        PromptError: too few captions for this level; or an embedding that is zero or not finite.
    """
    chosen = level_named(level)
    if chosen.needs_basis and basis is None:
        raise ConfigurationError(
            f"Codes of level {level!r} need the public basis that a bundle holds, and this one has none: it was "
            "exported by an earlier version. Export it again (`impasto-export`), or get the federation's bundle."
        )
    different = list(different_captions(captions).values())
    if len(different) < chosen.fewest:
        raise PromptError(
            f"A code of level {level!r} needs at least {chosen.fewest} different captions, because the captions of "
            f"fewer can be found again; the pictures have {len(different)}. Add pictures, or give each a caption of "
            "its own."
        )
    vectors = unit_length(encoder, different)
    if basis is not None and chosen.needs_basis and vectors.shape[1] != len(basis.mean):
        raise ConfigurationError(
            f"The basis is of another text encoder, of {len(basis.mean)} dimensions, not {vectors.shape[1]}: export "
            "the bundle again."
        )
    return chosen.encode(vectors, basis)


def different_captions(captions: Sequence[str]) -> dict[str, str]:
    """Return the captions that count, by a form that is the same for those that differ only in case or white space."""
    return {" ".join(caption.lower().split()): caption for caption in captions}


def unit_length(encoder: Encoder, captions: Sequence[str]) -> Matrix:
    """Return the captions' embeddings (n, dim) at unit length.

    Raises:
        PromptError: there is no caption, or an embedding is zero or not finite.
    """
    parts = [
        np.asarray(encoder(captions[at : at + _TOGETHER]), dtype=np.float64)
        for at in range(0, len(captions), _TOGETHER)
    ]
    vectors = np.concatenate(parts) if parts else np.empty((0, 0))
    if vectors.ndim != 2 or not vectors.size:
        raise PromptError(f"A prompt code needs embeddings of shape (captions, dim), not {vectors.shape}.")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or not lengths.all():
        raise PromptError("A caption's embedding is zero or not finite. Check the bundle's text encoder.")
    unit: Matrix = vectors / lengths
    return unit
