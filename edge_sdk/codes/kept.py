"""Codes that a device has sent, and keeps.

The difference of two codes of one device shows the captions that it got or lost between them, if these are few. So a
device keeps the code that it has sent, and sends the same one as long as fewer captions have come and gone than a code
may be made of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from edge_sdk import durable
from edge_sdk.codes.prompts import PromptCode
from edge_sdk.privacy import different_captions, level_named


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
