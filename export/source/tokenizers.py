"""Tokenizers of a bundle, checked: the device's own reader must split prompts into the same tokens as transformers'."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from edge_sdk.errors import BundleError, ExportError
from edge_sdk.inference.sampling import VOCABULARY, Tokenizer

# All kinds of characters and spaces, an empty prompt, and one that is too long.
_PROBES = (
    "",
    "a red fox, flat icon",
    "It's the cat's 3rd day, they've said: don't!  (masterpiece:1.2)",
    "naïve café, e\u0301tude, 狐狸 и лиса 🦊\tend\x07",
    "<|endoftext|> inside <|startoftext|> of a prompt",
    "fox! " * 100,
)


def write_tokenizer(tokenizer: Any, source: Path, target: Path) -> None:
    """Write a tokenizer of transformers into a bundle.

    Raises:
        ExportError: the device would split prompts into other tokens.
    """
    tokenizer.save_pretrained(target)
    for name in VOCABULARY:
        # Versions that keep everything in tokenizer.json leave them out.
        if not (target / name).is_file() and (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    try:
        own = Tokenizer(target)
    except BundleError as error:
        raise ExportError(f"The tokenizer of {source} cannot be exported. {error}") from error
    added = [str(token) for token in tokenizer.get_added_vocab()]
    for text in (*_PROBES, *(f"a{token}b {token} c" for token in added)):
        theirs = tokenizer(text, padding="max_length", max_length=own.length, truncation=True).input_ids
        if own.encode([text]).ids[0].tolist() != list(theirs):
            raise ExportError(
                f"The tokenizer of {source} cannot be exported: it cuts {text[:60]!r} into other tokens than a "
                "CLIPTokenizer does. Export a base model with CLIP's tokenizer, or report this one."
            )
