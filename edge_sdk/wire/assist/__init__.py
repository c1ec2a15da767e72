"""The wire of assisted drawing: its messages and their signatures. docs/assist.md describes them.

messages.py     what device and helper say to each other
signing.py      who has said it
"""

from __future__ import annotations

from edge_sdk.wire.assist.messages import (
    MAX_SEED,
    MAX_TOKENS,
    AdapterUse,
    Ask,
    AssistMessage,
    Busy,
    Cancel,
    Drawing,
    Drawn,
    Form,
    FromDevice,
    FromHelper,
    HelperState,
    Queued,
    decode,
    decode_drawing,
    encode,
    pack_tokens,
    request_id,
    unpack_tokens,
)
from edge_sdk.wire.assist.signing import Asker, HelperSigner, asks, cancels, check_drawn, check_helper

__all__ = [
    "MAX_SEED",
    "MAX_TOKENS",
    "AdapterUse",
    "Ask",
    "Asker",
    "AssistMessage",
    "Busy",
    "Cancel",
    "Drawing",
    "Drawn",
    "Form",
    "FromDevice",
    "FromHelper",
    "HelperSigner",
    "HelperState",
    "Queued",
    "asks",
    "cancels",
    "check_drawn",
    "check_helper",
    "decode",
    "decode_drawing",
    "encode",
    "pack_tokens",
    "request_id",
    "unpack_tokens",
]
