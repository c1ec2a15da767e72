"""From prompts to tokens, exactly as with transformers' CLIPTokenizer, by the `tokenizers` library alone.

Drawing, training and prompt codes all take their tokens from here; the export compares them with transformers'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import tokenizers
from tokenizers import Regex, models, normalizers, pre_tokenizers

from edge_sdk.errors import BundleCorrupt, PromptError

# Words of a text, as CLIP cuts it. Source: transformers, models/clip/tokenization_clip.py.
_WORD = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
_QUOTED = 80
VOCABULARY = ("vocab.json", "merges.txt")


class PromptTruncated(UserWarning):
    """A prompt is longer than the text encoder can read; `cut` is the end that is left out."""

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
        mask: (n, length), true up to the first end token, which is included.
        cut: for each prompt the end for which there was no room, mostly "".
    """

    ids: npt.NDArray[np.int64]
    mask: npt.NDArray[np.bool_]
    cut: tuple[str, ...]


class _Token(msgspec.Struct, frozen=True):
    """An AddedToken of transformers: the white space that it swallows and the places where it may stand.

    Its case counts, as in CLIPTokenizer.
    """

    content: str
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False


class _Config(msgspec.Struct, frozen=True):
    """The part of tokenizer_config.json that is used; tokens are stated as text or as transformers' AddedToken."""

    # transformers writes 1e30 if it does not know the length.
    model_max_length: Any = None
    bos_token: str | _Token = "<|startoftext|>"
    eos_token: str | _Token = "<|endoftext|>"
    unk_token: str | _Token = "<|endoftext|>"
    pad_token: str | _Token = "<|endoftext|>"
    added_tokens_decoder: dict[str, _Token] | None = None
    # Other values are refused.
    tokenizer_class: Literal["CLIPTokenizer", "CLIPTokenizerFast"] | None = None
    do_lower_case: Literal[True] | None = None
    padding_side: Literal["right"] | None = None
    truncation_side: Literal["right"] | None = None
    split_special_tokens: Literal[False] | None = None


class Tokenizer:
    """The tokenizer of a bundle or of a diffusers folder.

    It reads vocab.json, merges.txt and tokenizer_config.json, which also holds tokens that were added. In folders of
    transformers before 4.34, these are in added_tokens.json, and special_tokens_map.json overrides the rest.

    Args:
        folder: the tokenizer's.
        longest: number of tokens that the text encoder reads; None takes the length that the tokenizer states.

    Raises:
        BundleCorrupt: one of the files is missing or makes no sense.
    """

    def __init__(self, folder: Path, longest: int | None = None) -> None:
        check_vocabulary(folder)
        try:
            config = _read(folder)
            self.length = _length(config.model_max_length, longest)
            vocabulary, merges = models.BPE.read_file(*(str(folder / name) for name in VOCABULARY))
            special = [
                _text(token) for token in (config.bos_token, config.eos_token, config.unk_token, config.pad_token)
            ]
            self._tokenizer = tokenizers.Tokenizer(
                models.BPE(vocabulary, merges, unk_token=special[2], end_of_word_suffix="</w>")
            )
            self._add(config.added_tokens_decoder or {}, special)
            self._start, self._end, _, self._pad = (self._id(token) for token in special)
        # The tokenizers library raises plain Exceptions.
        except Exception as error:
            raise BundleCorrupt(
                f"The tokenizer in {folder} cannot be used ({str(error)[:500]}): fetch the base model again, or export "
                "the bundle again."
            ) from error
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

    @cached_property
    def size(self) -> int:
        """Number of tokens in the vocabulary, added ones included: the text encoder needs as many."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def encode(self, texts: Sequence[str]) -> Tokens:
        """Tokens of prompts, padded or cut to the text encoder's length.

        Raises:
            PromptError: a prompt is no text, or no valid Unicode.
        """
        found = [self.words(text) for text in texts]
        return self.padded([words for words, _ in found], tuple(rest for _, rest in found))

    def padded(self, rows: Sequence[Sequence[int]], cut: tuple[str, ...]) -> Tokens:
        """Tokens of prompts whose `words` are known, and what was cut off each.

        Raises:
            PromptError: a prompt has too many words, or numbers that are no words of this vocabulary.
        """
        ids = np.full((len(rows), self.length), self._pad, np.int64)
        mask = np.zeros((len(rows), self.length), np.bool_)
        size = self.size
        for row, words in enumerate(rows):
            if len(words) > self.length - 2 or not all(0 <= word < size for word in words):
                raise PromptError(
                    f"A prompt of {len(words)} tokens is not of this tokenizer, which takes {self.length - 2} of "
                    f"{size} tokens: give the bundle that it was made with."
                )
            used = [self._start, *words, self._end]
            ids[row, : len(used)] = used
            mask[row, : used.index(self._end) + 1] = True
        return Tokens(ids, mask, cut)

    def _add(self, added: Mapping[str, _Token], special: Sequence[str]) -> None:
        """Register added and special tokens, which are found in a text before it is cut into words."""
        tokens = {int(number): token for number, token in added.items()}
        known = {token.content for token in tokens.values()}
        for number, token in sorted(tokens.items()):
            self._tokenizer.add_special_tokens([_spelled(token)])
            if (found := self._id(token.content)) != number:
                raise ValueError(
                    f"its added token {token.content[:100]!r} has number {number} and would get {found}: "
                    "there is a gap in the numbers"
                )
        self._tokenizer.add_special_tokens([token for token in dict.fromkeys(special) if token not in known])

    def _id(self, token: str) -> int:
        number = self._tokenizer.token_to_id(token)
        if number is None:
            raise ValueError(f"it has no token {token[:100]!r}")
        return int(number)

    def words(self, text: str) -> tuple[list[int], str]:
        """Tokens of a prompt without start, end and padding, as many as there is room for, and the rest of the prompt.

        Raises:
            PromptError: as `encode`.
        """
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


def check_vocabulary(folder: Path) -> None:
    """Check that the files with a tokenizer's vocabulary exist.

    Raises:
        BundleCorrupt: one is missing; the message says how to get it.
    """
    missing = [name for name in VOCABULARY if not (folder / name).is_file()]
    if not missing:
        return
    next_step = (
        "There is tokenizer.json alone, as transformers 5 writes it. Make the others of it with transformers: "
        "CLIPTokenizerFast.from_pretrained(FOLDER).save_vocabulary(FOLDER)."
        if (folder / "tokenizer.json").is_file()
        else "Fetch the base model again, or export the bundle again."
    )
    raise BundleCorrupt(f"The tokenizer in {folder} cannot be used: it has no {' and no '.join(missing)}. {next_step}")


def _read(folder: Path) -> _Config:
    """The content of tokenizer_config.json, with the tokens that older folders state in other files."""
    stated = msgspec.json.decode((folder / "tokenizer_config.json").read_bytes(), type=dict[str, Any])
    if "added_tokens_decoder" not in stated:
        specials, added = folder / "special_tokens_map.json", folder / "added_tokens.json"
        if specials.is_file():
            stated |= msgspec.json.decode(specials.read_bytes(), type=dict[str, Any])
        if added.is_file():
            numbers = msgspec.json.decode(added.read_bytes(), type=dict[str, int])
            stated["added_tokens_decoder"] = {str(number): {"content": text} for text, number in numbers.items()}
    return msgspec.convert(stated, _Config)


def _length(stated: Any, longest: int | None) -> int:
    """Tokens of a padded prompt."""
    own = stated if isinstance(stated, int) and 3 <= stated <= 4096 else None
    if own is None and longest is None:
        raise ValueError(f"its model_max_length is {str(stated)[:50]}, not a number of tokens from 3 to 4096")
    return min(number for number in (own, longest) if number is not None)


def _spelled(token: _Token) -> tokenizers.AddedToken:
    return tokenizers.AddedToken(
        token.content, lstrip=token.lstrip, rstrip=token.rstrip, single_word=token.single_word, normalized=False
    )


def _text(token: str | _Token) -> str:
    return token if isinstance(token, str) else token.content
