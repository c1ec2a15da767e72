"""Messages to a device that is taken for gone, in case somebody else has caused it."""

from __future__ import annotations

from typing import NamedTuple


class Challenge(NamedTuple):
    """The fields of such a Refused.

    Attributes:
        code: name of the reason.
        reason: the reason in words.
        about: the message that the device is taken for gone by, "presence" or "leave".
    """

    code: str
    reason: str
    about: str


PRESENCE_LOST = Challenge(
    "PresenceLost",
    "Your presence says that you are gone: nobody waits for you. If you are there, say your presence again.",
    "presence",
)
HAS_LEFT = Challenge(
    "HasLeft",
    "You take no part any more: Leave was said in your name. If that was not you, say Join again.",
    "leave",
)
