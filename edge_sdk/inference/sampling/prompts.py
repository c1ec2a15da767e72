"""From prompts to the UNet's condition."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edge_sdk.errors import PromptError
from edge_sdk.inference.bundle import Bundle
from edge_sdk.inference.runtime import Stages
from edge_sdk.inference.sampling.tokenizer import PromptTruncated, Tokenizer, Tokens

Floats: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True)
class PromptWords:
    """A prompt as token ids, without start, end and padding.

    Attributes:
        ids: for each text encoder of the bundle, the prompt's tokens.
        empty: True for an empty text, which some base models take as zeros where it is negative.
    """

    ids: tuple[tuple[int, ...], ...]
    empty: bool = False


@dataclass(frozen=True)
class Condition:
    """The UNet's inputs for n prompts.

    Attributes:
        hidden: (n, tokens, dim), a vector for each token.
        pooled: (n, dim), one for the whole prompt; only SDXL has it.
    """

    hidden: Floats
    pooled: Floats | None = None

    def repeated(self, times: int) -> Condition:
        """The condition with each prompt repeated so many times in a row."""
        pooled = None if self.pooled is None else np.repeat(self.pooled, times, axis=0)
        return Condition(np.repeat(self.hidden, times, axis=0), pooled)


class PromptEncoder:
    """The tokenizers and text encoders of a bundle."""

    def __init__(self, bundle: Bundle, stages: Stages) -> None:
        self._stages = stages
        self._outputs = bundle.index.condition_outputs
        self._tokenizers = [Tokenizer(bundle.path(folder)) for folder in bundle.index.tokenizers]
        self._zero_empty_negative = bundle.index.zero_empty_negative

    def words(self, prompts: Sequence[str | PromptWords], stacklevel: int) -> list[PromptWords]:
        """The prompts as token ids; warns of texts that are too long.

        stacklevel: that of `warnings.warn`, counted from the caller.

        Raises:
            PromptError: a prompt is no text, no valid Unicode, or has token ids for another number of text encoders.
        """
        found = []
        for prompt in prompts:
            if isinstance(prompt, PromptWords):
                if len(prompt.ids) != len(self._tokenizers):
                    raise PromptError(
                        f"A prompt has token ids for {len(prompt.ids)} text encoders, and the bundle has "
                        f"{len(self._tokenizers)}: give the bundle that it was made with."
                    )
                found.append(prompt)
                continue
            (ids, cut), *others = [tokenizer.words(prompt) for tokenizer in self._tokenizers]
            if cut:
                warnings.warn(PromptTruncated(cut, self._tokenizers[0].length), stacklevel=stacklevel + 1)
            found.append(PromptWords((tuple(ids), *(tuple(more) for more, _ in others)), not prompt))
        return found

    def tokens(self, words: Sequence[PromptWords], encoder: int = 0) -> Tokens:
        """Padded tokens for one of the text encoders.

        Raises:
            PromptError: token ids are not of the bundle's tokenizer.
        """
        return self._tokenizers[encoder].padded([prompt.ids[encoder] for prompt in words], ("",) * len(words))

    def encode(self, words: Sequence[PromptWords], negatives: int = 0) -> Condition:
        """The condition for prompts.

        Args:
            words: the result of `words`.
            negatives: number of the first ones that are negative prompts; some base models take empty ones as zeros.

        Raises:
            PromptError: as `tokens`.
        """
        hidden, pooled = [], None
        for number, output in enumerate(self._outputs):
            ids = self.tokens(words, number).ids
            stage, wanted = ("text_encoder", [output]) if number == 0 else ("text_encoder_2", [output, "text_embeds"])
            found = self._stages.run(stage, wanted, {"input_ids": ids})
            hidden.append(found[0])
            pooled = found[1] if number else None
        condition = Condition(hidden[0] if len(hidden) == 1 else np.concatenate(hidden, axis=-1), pooled)
        if not self._zero_empty_negative:
            return condition
        said = np.array([row >= negatives or not prompt.empty for row, prompt in enumerate(words)], np.float32)
        return Condition(condition.hidden * said[:, None, None], None if pooled is None else pooled * said[:, None])
