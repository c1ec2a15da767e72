"""Encoded pictures and captions on disk, a file for each, named by a hash of the picture or caption and the base id.

They show what the owner's pictures show, so that only the owner may read them. Those that were not used for a month are
deleted.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor

from edge_sdk import durable
from edge_sdk.inference.runtime import cache as caching

# Seconds after its last use until a file is deleted.
UNUSED = 30 * 24 * 3600.0
_FORMAT = "impasto encoded 1"


class KeptEncodings:
    """Encodings of one base model.

    Args:
        base_id: that of the model whose autoencoder and text encoder made them.
        cache: the folder to keep them in; None keeps none.
    """

    def __init__(self, base_id: str, cache: Path | None) -> None:
        self._base_id = base_id
        self._folder = None if cache is None else cache / caching.ENCODED

    def encoded(self, count: int, content: Callable[[int], bytes], encode: Callable[[list[int]], Tensor]) -> Tensor:
        """The encodings of the contents, stacked: (n, ...).

        Args:
            count: number of contents.
            content: of a number, the bytes on which its encoding depends; asked for one at a time.
            encode: encodes those of these numbers, which are not kept yet.
        """
        if self._folder is None:
            return encode(list(range(count)))
        files = [self._folder / self._name(content(number)) for number in range(count)]
        found = [_read(file) for file in files]
        missing = [number for number, encoding in enumerate(found) if encoding is None]
        if missing:
            self._sweep()
            for number, encoding in zip(missing, encode(missing), strict=True):
                found[number] = encoding
                # On a full disk or in a folder that cannot be written, they are encoded again the next time.
                with suppress(OSError):
                    durable.private_folder(self._folder)
                    data = save({"encoding": encoding.contiguous()}, {"format": _FORMAT})
                    durable.write(files[number], data, private=True)
        return torch.stack([encoding for encoding in found if encoding is not None])

    def _name(self, content: bytes) -> str:
        return hashlib.sha256(self._base_id.encode() + b"\0" + content).hexdigest()[:40]

    def _sweep(self) -> None:
        assert self._folder is not None
        with suppress(OSError):
            for file in self._folder.iterdir():
                if time.time() - file.stat().st_mtime > UNUSED:
                    file.unlink()


def _read(file: Path) -> Tensor | None:
    """A kept encoding; None if there is none that can be read."""
    try:
        with safetensors.safe_open(file, "pt") as opened:
            if (opened.metadata() or {}).get("format") != _FORMAT:
                return None
            encoding: Tensor = opened.get_tensor("encoding").clone()
    except (OSError, KeyError, safetensors.SafetensorError):
        return None
    with suppress(OSError):  # in a folder that cannot be written
        os.utime(file)
    return encoding if bool(encoding.isfinite().all()) else None
