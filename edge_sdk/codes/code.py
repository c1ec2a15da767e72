"""A code of a device, as it is sent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Code:
    """A prompt code or picture code, with the facts that the coordinator needs to compare it.

    Attributes:
        level: its privacy level.
        code: the code, as it is sent; empty if there is none to send.
        source: id of the public basis or the image encoder that it was made with, 32 bytes; empty if there is none.
    """

    level: str
    code: bytes
    source: bytes = b""
