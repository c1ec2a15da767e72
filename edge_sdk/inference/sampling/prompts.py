"""From prompts to the UNet's condition."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edge_sdk.inference.bundle import Bundle
from edge_sdk.inference.runtime import Stages
from edge_sdk.inference.sampling.tokenizer import PromptTruncated, Tokenizer, Tokens

Floats: TypeAlias = npt.NDArray[np.float32]


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

    def tokens(self, texts: Sequence[str], stacklevel: int) -> Tokens:
        """The first tokenizer's tokens; warns of prompts that are too long.

        stacklevel: that of `warnings.warn`, counted from the caller.
        """
        tokens = self._tokenizers[0].encode(texts)
        for cut in filter(None, tokens.cut):
            warnings.warn(PromptTruncated(cut, self._tokenizers[0].length), stacklevel=stacklevel + 1)
        return tokens

    def encode(self, texts: Sequence[str], tokens: Tokens, negatives: int = 0) -> Condition:
        """The condition for prompts.

        Args:
            tokens: the result of `tokens` for the texts.
            negatives: number of the first texts that are negative prompts; some base models take empty ones as zeros.
        """
        hidden, pooled = [], None
        for number, (output, tokenizer) in enumerate(zip(self._outputs, self._tokenizers, strict=True)):
            ids = tokens.ids if number == 0 else tokenizer.encode(texts).ids
            stage, wanted = ("text_encoder", [output]) if number == 0 else ("text_encoder_2", [output, "text_embeds"])
            found = self._stages.run(stage, wanted, {"input_ids": ids})
            hidden.append(found[0])
            pooled = found[1] if number else None
        condition = Condition(hidden[0] if len(hidden) == 1 else np.concatenate(hidden, axis=-1), pooled)
        if not self._zero_empty_negative:
            return condition
        said = np.array([row >= negatives or bool(text) for row, text in enumerate(texts)], np.float32)
        return Condition(condition.hidden * said[:, None, None], None if pooled is None else pooled * said[:, None])
