"""Memory of drawing: the limit as people write it, and the estimate of what a stage needs beside its weights."""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)

# Bytes of the process itself: interpreter, numpy, ONNX Runtime, tokenizer.
PROCESS = 80_000_000
# Bytes of working memory for a byte of the stage's largest input, measured at 512 x 512 pixels (docs/devices.md).
# The encoders' inputs are tokens and whole pictures.
_WORKING = {
    "text_encoder": 30_000, "text_encoder_2": 60_000, "vae_encoder": 400, "preview_decoder": 2_000,
    "image_encoder": 20,
}  # fmt: skip
_WORKING_DECODER = 20_000
_WORKING_DENOISER = 8_000

# A parameter of mallopt(3).
_M_MMAP_THRESHOLD = -3

# Parts of the messages by which the C++ library and the allocators of ONNX Runtime, OpenVINO and torch report that
# there is no more memory.
_LACK = ("bad_alloc", "bad allocation", "failed to allocate", "allocate memory", "out of memory")


def is_lack_of_it(error: BaseException) -> bool:
    """True if an error, of whatever library, means that the system gave no more memory."""
    return isinstance(error, MemoryError) or any(mark in str(error).lower() for mark in _LACK)


def parse_size(size: int | str) -> int:
    """Bytes of a number, or of a text such as "900MB", "1.5 GB" (powers of 1000) or "2GiB" (powers of 1024).

    Raises:
        ValueError: `size` is neither, or not positive.
    """
    if isinstance(size, bool) or not isinstance(size, int | str):
        raise ValueError(f"A size is a number of bytes or a text such as '1GB', not {size!r}.")
    matched = _SIZE.fullmatch(str(size))
    if not matched or (matched[3] and not matched[2]):
        raise ValueError(f"{size!r} is no size: write a number of bytes, or a text such as '900MB', '1.5GB' or '2GiB'.")
    number, unit, binary = matched[1], matched[2].lower(), matched[3]
    found = int(float(number) * (_BINARY[unit] if binary else _UNITS[unit]))
    if found <= 0:
        raise ValueError("A size must be more than 0 bytes.")
    return found


def show_size(size: float) -> str:
    """Text for a number of bytes: "677 MB", "4.5 GB"."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def give_back() -> None:
    """Return freed memory to the system; on most Linux systems the C library keeps it otherwise.

    Measured: after preparing a graph of 1 GB it kept 1.9 GB.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)


def keep_no_large_blocks() -> None:
    """Let the C library return every freed block of a megabyte and more to the system at once, from now on.

    Otherwise glibc keeps blocks of up to 32 MB between smaller ones that are in use. Measured: 1.3 GB after a training
    step of Stable Diffusion 1.5.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(_M_MMAP_THRESHOLD, 1 << 20)


def working_set(stage: str, feed: Mapping[str, npt.NDArray[Any]]) -> int:
    """Estimated bytes that a stage needs beside its weights while it runs on this input."""
    factor = _WORKING.get(stage, _WORKING_DECODER if "decoder" in stage else _WORKING_DENOISER)
    inputs = [value for name, value in feed.items() if ".lora_" not in name]
    # Only latents count for the UNet: its work does not grow with the text.
    latents = [value for value in inputs if np.ndim(value) == 4] or inputs
    return factor * max((value.nbytes for value in latents), default=0)
