"""Invitations as text."""

from __future__ import annotations

import pytest

from edge_sdk.errors import ConfigurationError
from edge_sdk.wire.invitation import Invitation, read_invitation

INVITATION = Invitation("stickers", "pi-4", bytes(range(32)), bytes(range(16)))


def test_one_word_that_can_be_read_again() -> None:
    text = INVITATION.to_text()
    assert text.startswith("impasto1.")
    assert len(text.split()) == 1
    assert read_invitation(f"  {text}\n") == INVITATION


@pytest.mark.parametrize(
    "text",
    ["", "impasto1.", "pi-4", INVITATION.to_text()[:-4], INVITATION.to_text() + "AAAA", "impasto1.€", "x" * 2000,
     INVITATION.to_text().removeprefix("impasto1."), Invitation("a/b", "x", bytes(32), bytes(16)).to_text(),
     Invitation("a", "x", bytes(31), bytes(16)).to_text()],
)  # fmt: skip
def test_what_is_none_is_told(text: str) -> None:
    with pytest.raises(ConfigurationError, match="no invitation"):
        read_invitation(text)
