"""Prompts to tokens, exactly as transformers' CLIPTokenizer does it, with the `tokenizers` library alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
import tokenizers
from msgspec import Meta
from tokenizers import Regex, models, normalizers, pre_tokenizers

from edge_sdk.errors import BundleCorrupt, PromptError

# How CLIP cuts a text into words. Source: transformers, models/clip/tokenization_clip.py.
_WORD = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
_QUOTED = 80


class PromptTruncated(UserWarning):
    """A prompt is longer than the text encoder reads; `cut` is the end that it never sees."""

    def __init__(self, cut: str, limit: int) -> None:
        self.cut = cut
        shown = cut if len(cut) <= _QUOTED else f"{cut[:_QUOTED]}…"
        super().__init__(
            f"The prompt is longer than {limit} tokens. Not used: {shown!r}. Say the important things first."
        )


@dataclass(frozen=True)
class Tokens:
    """Padded prompts.

    Attributes:
        ids: (n, length).
        mask: (n, length), true up to and with the first end token.
        cut: for each prompt the end for which there was no room, mostly "".
    """

    ids: npt.NDArray[np.int64]
    mask: npt.NDArray[np.bool_]
    cut: tuple[str, ...]


class _Special(msgspec.Struct, frozen=True):
    content: str


class _Config(msgspec.Struct, frozen=True):
    """The part of tokenizer_config.json that is used; tokens are stated as text or as transformers' AddedToken."""

    model_max_length: Annotated[int, Meta(ge=3, le=4096)]
    bos_token: str | _Special = "<|startoftext|>"
    eos_token: str | _Special = "<|endoftext|>"
    unk_token: str | _Special = "<|endoftext|>"
    pad_token: str | _Special = "<|endoftext|>"


class Tokenizer:
    """The tokenizer of a bundle or of a diffusers folder: vocab.json, merges.txt and tokenizer_config.json.

    Raises:
        BundleCorrupt: one of the files is missing or makes no sense.
    """

    def __init__(self, folder: Path) -> None:
        try:
            config = msgspec.json.decode((folder / "tokenizer_config.json").read_bytes(), type=_Config)
            vocabulary, merges = models.BPE.read_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
            special = [
                _text(token) for token in (config.bos_token, config.eos_token, config.unk_token, config.pad_token)
            ]
            self._start, self._end, _, self._pad = (vocabulary[token] for token in special)
            model = models.BPE(vocabulary, merges, unk_token=special[2], end_of_word_suffix="</w>")
        # The tokenizers library raises plain Exceptions.
        except Exception as error:
            raise BundleCorrupt(
                f"The tokenizer in {folder} cannot be used ({str(error)[:500]}): export the bundle again."
            ) from error
        self.length = config.model_max_length
        self._tokenizer = tokenizers.Tokenizer(model)
        self._tokenizer.normalizer = normalizers.Sequence(
            [
                normalizers.BertNormalizer(
                    clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=False
                ),
                normalizers.NFC(),
                normalizers.Lowercase(),
            ]
        )
        self._tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(_WORD, behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        self._tokenizer.add_special_tokens(sorted(set(special[:3])))

    def encode(self, texts: Sequence[str]) -> Tokens:
        """Tokens of prompts, padded and cut to the text encoder's length.

        Raises:
            PromptError: not a text, or one that is no valid Unicode.
        """
        ids = np.full((len(texts), self.length), self._pad, np.int64)
        mask = np.zeros((len(texts), self.length), np.bool_)
        cut = []
        for row, text in enumerate(texts):
            words, rest = self._words(text)
            used = [self._start, *words, self._end]
            ids[row, : len(used)] = used
            mask[row, : used.index(self._end) + 1] = True
            cut.append(rest)
        return Tokens(ids, mask, tuple(cut))

    def _words(self, text: str) -> tuple[list[int], str]:
        """The tokens of a prompt for which there is room, and the rest of the prompt."""
        if not isinstance(text, str):
            raise PromptError(f"A prompt is a text, not {type(text).__name__}.")
        try:
            encoding = self._tokenizer.encode(text, add_special_tokens=False)
        except (TypeError, UnicodeError) as error:
            raise PromptError(
                "The prompt is no valid Unicode text (half a character is missing): type it again."
            ) from error
        room = self.length - 2
        # Offsets count characters of the text as it was given.
        rest = text[encoding.offsets[room][0] :].strip() if len(encoding.ids) > room else ""
        return encoding.ids[:room], rest


def _text(token: str | _Special) -> str:
    return token if isinstance(token, str) else token.content
