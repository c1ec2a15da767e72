"""Recognition, by its first bytes, of a file that should hold safetensors and holds something else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

# Bytes of a file that are enough to recognise it.
BEGINNING = 1024
_TO_CONVERT = (
    "pickle can run code when it is opened, so it is never read here. Convert it on a machine that may: "
    "safetensors.torch.save_file(torch.load(FILE, weights_only=True), NEW_FILE)"
)


def explain(data: bytes) -> str | None:
    """Return the words on a file that is no safetensors file, and what to do; None if its beginning does not tell.

    data: the whole file, or its first `BEGINNING` bytes.
    """
    beginning = data[:BEGINNING]
    return next((text for fits, text in _KINDS if fits(beginning)), None)


def explain_file(path: Path) -> str | None:
    """Return the same as `explain` for a file on disk; None also if it cannot be read."""
    try:
        with path.open("rb") as file:
            return explain(file.read(BEGINNING))
    except OSError:
        return None


def _is_page(beginning: bytes) -> bool:
    return beginning.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype", b"<html", b"<head", b"<?xml"))


def _is_json(beginning: bytes) -> bool:
    """True for a JSON text. Read as a safetensors header, its first bytes would give far too large a length."""
    if not beginning.lstrip().startswith((b"{", b"[")) or b"\0" in beginning:
        return False
    if len(beginning) == BEGINNING:
        return True
    try:
        json.loads(beginning)
    except (ValueError, RecursionError):
        return False
    return True


_KINDS: tuple[tuple[Callable[[bytes], bool], str], ...] = (
    (
        lambda beginning: not beginning,
        "the file is empty: the download or the copy failed, perhaps for want of disk space; fetch it again",
    ),
    (
        lambda beginning: beginning.startswith(b"version https://git-lfs.github.com/spec"),
        "this is a pointer of Git LFS, not the file itself: run `git lfs install` and `git lfs pull` in its "
        "repository, or download the file from its page",
    ),
    (
        _is_page,
        "this is a web page, not the file: the link leads to a page about it, or wants a login; use the link of the "
        "download itself",
    ),
    (
        lambda beginning: beginning.startswith(b"PK\x03\x04"),
        f"this is a zip, as PyTorch's .bin, .pt, .pth and .ckpt files are, with a pickle in it: {_TO_CONVERT}",
    ),
    # Protocols 2 to 5, which torch.save has written, and pickle.dump.
    (
        lambda beginning: beginning[:1] == b"\x80" and beginning[1:2] in (b"\2", b"\3", b"\4", b"\5"),
        f"this is a pickle, as old .bin, .pt and .ckpt files are: {_TO_CONVERT}",
    ),
    (
        lambda beginning: beginning.startswith(b"GGUF"),
        "this is a GGUF file, of stable-diffusion.cpp or llama.cpp: get the safetensors that it was made of",
    ),
    (_is_json, "this is JSON, such as a server's answer instead of the file: look into it, and fetch the file again"),
)
