"""Client ids that nobody can guess: a broker ends a client's connection when another one comes with the same id."""

from __future__ import annotations

import secrets
import string

_ALPHABET = string.ascii_letters + string.digits
_NAME, _RANDOM = 7, 16  # 23 characters, letters and digits: such ids every broker has to take


def fresh_id(name: str = "") -> str:
    """A client id for one session: the beginning of a name, for readers of the broker's log, and 95 random bits."""
    readable = "".join(letter for letter in name if letter in _ALPHABET)[:_NAME]
    return readable + "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM))
