"""The prompt codes of captions by a bundle: its text encoder, its public basis, a privacy level.

The difference of two codes of one device shows the captions that it got or lost between them, if these are few. So a
device keeps the code that it has sent, and sends the same one as long as fewer captions have come and gone than a code
may be made of.
"""

from __future__ import annotations

import functools
import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from edge_sdk import durable
from edge_sdk.inference import BASIS, Generator, PromptTruncated
from edge_sdk.privacy import Basis, different_captions, level_named, load_basis, prompt_code


@dataclass(frozen=True)
class PromptCode:
    """A device's prompt code, with the facts that the coordinator needs to compare it.

    Attributes:
        level: its privacy level.
        code: the code, as it is sent.
        basis: id of the public basis that it was made with, 32 bytes; empty if its level needs none.
    """

    level: str
    code: bytes
    basis: bytes


def prompt_codes(generator: Generator, captions: Sequence[str], levels: Sequence[str]) -> list[PromptCode]:
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

    def coded(level: str) -> PromptCode:
        basis = basis_of(generator) if level_named(level).needs_basis else None
        code = prompt_code(captions, lambda texts: encoded(tuple(texts)), level, basis)
        return PromptCode(level, code, b"" if basis is None else bytes.fromhex(basis.id))

    return [coded(level) for level in levels]


def kept_code(file: Path, made: PromptCode, captions: Sequence[str]) -> PromptCode:
    """Return the code to send: the one in the file, unless too much has changed; a new one is kept there.

    Args:
        file: the file in the device's home.
        made: the code of the present captions.
        captions: those captions.

    Raises:
        OSError: the file cannot be written.
    """
    present = {hashlib.sha256(text.encode()).hexdigest() for text in different_captions(captions)}
    try:
        kept = msgspec.json.decode(file.read_bytes(), type=_Kept)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        kept = None  # there is none, or it was damaged
    if (
        kept is not None
        and (kept.level, kept.basis) == (made.level, made.basis)
        and len(present ^ set(kept.captions)) < level_named(made.level).fewest
    ):
        return PromptCode(kept.level, kept.code, kept.basis)
    content = _Kept(level=made.level, basis=made.basis, code=made.code, captions=sorted(present))
    durable.write(file, msgspec.json.encode(content), private=True)
    return made


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The code that was sent, and hashes of the captions that it was made of."""

    level: str
    basis: bytes
    code: bytes
    captions: list[str]


def basis_of(generator: Generator) -> Basis | None:
    """Return the public basis of a generator's bundle; None if it has none.

    Raises:
        BundleCorrupt: the file of the basis cannot be used.
    """
    stated = generator.bundle.index.prompt_basis
    return None if stated is None else load_basis(generator.bundle.path(BASIS), stated.id)
