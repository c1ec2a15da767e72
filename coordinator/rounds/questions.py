"""What a device is told that is taken for gone: it may have been somebody else who said so."""

from __future__ import annotations

from typing import NamedTuple


class Questioned(NamedTuple):
    """The fields of the Refused that tells it. code: the name; reason: in words; about: the message that said so."""

    code: str
    reason: str
    about: str


PRESENCE_LOST = Questioned(
    "PresenceLost",
    "Your presence says that you are gone: nobody waits for you. If you are there, say your presence again.",
    "presence",
)
HAS_LEFT = Questioned(
    "HasLeft",
    "You take no part any more: Leave was said in your name. If that was not you, say Join again.",
    "leave",
)
