"""Invitations: one-time tokens from the operator to a device's owner that let one device into a federation.

The text is "impasto1." and base64url of the msgpack array [federation, device, key, secret]. The key is the
coordinator's public key, so that the device need not trust the first coordinator that shows itself.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

import msgspec
from msgspec import Meta

from edge_sdk.errors import ConfigurationError
from edge_sdk.wire.messages import Key, Name

SECRET_BYTES = 16
_PREFIX = "impasto1."


class Invitation(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An invitation of one device to one federation.

    federation, device: their names; key: the coordinator's public key, 32 bytes; secret: this invitation's own.
    """

    federation: Name
    device: Name
    key: Key
    secret: Annotated[bytes, Meta(min_length=SECRET_BYTES, max_length=SECRET_BYTES)]

    def __repr__(self) -> str:
        """The invitation without its secret."""
        return f"Invitation({self.federation!r}, {self.device!r})"

    def to_text(self) -> str:
        """The invitation as one word without spaces, to be copied."""
        return _PREFIX + base64.urlsafe_b64encode(msgspec.msgpack.encode(self)).decode().rstrip("=")


def read_invitation(text: str) -> Invitation:
    """Read an invitation from its text.

    Raises:
        ConfigurationError: the text is no invitation, or was not copied completely.
    """
    text = text.strip()
    content = text.removeprefix(_PREFIX)
    try:
        if content == text or len(text) > 1000:
            raise ValueError("it does not begin with impasto1.")
        data = base64.b64decode(content + "=" * (-len(content) % 4), altchars=b"-_", validate=True)
        return msgspec.msgpack.decode(data, type=Invitation)
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise ConfigurationError(
            f"This is no invitation ({error}): copy the whole line that `impasto-coordinator invite` has printed."
        ) from error
