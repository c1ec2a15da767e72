"""Masks: the key stream of ChaCha20 (RFC 8439, counter and nonce 0) as little-endian uint32 words, added modulo 2^32.

Of a pair, the device that comes first in the roster adds the mask, and the other subtracts it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Words: TypeAlias = NDArray[np.uint32]
"""A vector of words; the arithmetic is modulo 2^32."""

_PIECE = 1 << 16  # words at a time, so that they stay in the processor's cache
_ZEROS = bytes(4 * _PIECE)


def mask(key: bytes, words: int) -> Words:
    """The mask of a key, 32 bytes."""
    total = np.zeros(words, np.uint32)
    add_masks(total, [(key, 1)])
    return total


def add_masks(total: Words, masks: Iterable[tuple[bytes, int]]) -> None:
    """Add masks to a vector in place: each a key, and 1 or -1 to subtract it."""
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

    piece = bytearray(4 * _PIECE)
    view = memoryview(piece)
    for key, sign in masks:
        stream = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()
        for start in range(0, len(total), _PIECE):
            part = total[start : start + _PIECE]
            size = 4 * len(part)
            stream.update_into(memoryview(_ZEROS)[:size], view[:size])
            words = np.frombuffer(piece, "<u4", len(part))
            if sign > 0:
                np.add(part, words, out=part)
            else:
                np.subtract(part, words, out=part)


def to_bytes(words: Words) -> bytes:
    """The bytes of a vector, as they travel."""
    return words.astype("<u4", copy=False).tobytes()


def from_bytes(data: bytes) -> Words:
    """A vector of its own from its bytes."""
    return np.frombuffer(data, "<u4").astype(np.uint32)
