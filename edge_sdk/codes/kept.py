"""Codes that a device has sent, and keeps.

The difference of two codes of one device shows the captions or pictures that it got or lost between them, if these are
few. So a device keeps the code that it has sent, and sends the same one as long as fewer have come and gone than a code
may be made of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from edge_sdk import durable
from edge_sdk.codes.code import Code
from edge_sdk.privacy import level_named


def kept_code(file: Path, made: Code, parts: Iterable[str]) -> Code:
    """Return the code to send: the one in the file, unless too much has changed; a new one is kept there.

    Args:
        file: the file in the device's home.
        made: the code of the present captions or pictures; an empty one is returned as it is, and not kept.
        parts: the keys of `different_captions` or `different_pictures`.

    Raises:
        OSError: the file cannot be written.
    """
    if not made.code:
        return made
    present = {hashlib.sha256(part.encode()).hexdigest() for part in parts}
    try:
        kept = msgspec.json.decode(file.read_bytes(), type=_Kept)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        kept = None  # there is none, or it was damaged
    if (
        kept is not None
        and (kept.level, kept.source) == (made.level, made.source)
        and len(present ^ set(kept.parts)) < level_named(made.level).fewest
    ):
        return Code(kept.level, kept.code, kept.source)
    content = _Kept(level=made.level, source=made.source, code=made.code, parts=sorted(present))
    durable.write(file, msgspec.json.encode(content), private=True)
    return made


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The code that was sent, and hashes of the captions or pictures that it was made of."""

    level: str
    source: bytes
    code: bytes
    parts: list[str]
