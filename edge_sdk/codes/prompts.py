"""The prompt codes of captions by a bundle: its text encoder, its public basis, a privacy level."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edge_sdk.codes.code import Code
from edge_sdk.inference import BASIS, Generator, PromptTruncated
from edge_sdk.privacy import Basis, level_named, load_basis, prompt_code


def prompt_codes(generator: Generator, captions: Sequence[str], levels: Sequence[str]) -> list[Code]:
    """Return the codes of captions, one for each level. Every caption is encoded once.

    Raises:
        ConfigurationError: there is no such level, or the bundle lacks the public basis that it needs.
        PromptError: there are too few different captions for a level.
        BundleCorrupt: the basis in the bundle cannot be used.
    """

    @functools.cache
    def encoded(texts: tuple[str, ...]) -> npt.NDArray[np.float32]:
        with warnings.catch_warnings():
            # The beginning of a long caption says what a picture is about: enough for a prompt code.
            warnings.simplefilter("ignore", PromptTruncated)
            return generator.encode_prompt(texts)[1]

    def coded(level: str) -> Code:
        basis = basis_of(generator) if level_named(level).needs_basis else None
        code = prompt_code(captions, lambda texts: encoded(tuple(texts)), level, basis)
        return Code(level, code, b"" if basis is None else bytes.fromhex(basis.id))

    return [coded(level) for level in levels]


def basis_of(generator: Generator) -> Basis | None:
    """Return the public basis of a generator's bundle; None if it has none.

    Raises:
        BundleCorrupt: the file of the basis cannot be used.
    """
    stated = generator.bundle.index.prompt_basis
    return None if stated is None else load_basis(generator.bundle.path(BASIS), stated.id)
