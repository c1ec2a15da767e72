"""Passwords and invitations in files of their own."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from edge_sdk.errors import ConfigurationError
from edge_sdk.transport import read_secret


@pytest.mark.parametrize("content", [b"p\xc3\xa4ss word", b"\xef\xbb\xbfp\xc3\xa4ss word\r\n", b"p\xc3\xa4ss word\n\n"])
def test_neither_line_ends_nor_a_byte_order_mark_are_part_of_a_secret(content: bytes, tmp_path: Path) -> None:
    """With a mark that no editor shows, a broker would refuse the right password."""
    (tmp_path / "password").write_bytes(content)
    assert read_secret(tmp_path / "password", "--password-file", "password") == "päss word"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "Cannot read password_file .*password: No such file or directory"),
        (b"\n", "password_file .*password is empty: write the password into it"),
        ("geheim".encode("utf-16"), "it is no text in UTF-8"),
    ],
)
def test_what_holds_no_secret_is_named_and_never_shown(content: bytes | None, said: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "password").write_bytes(content)
    with pytest.raises(ConfigurationError, match=said) as raised:
        read_secret(tmp_path / "password", "password_file", "password")
    shown = "".join(traceback.format_exception(raised.value))
    assert "geheim" not in shown
    assert "UnicodeDecodeError" not in shown  # which holds what the file holds
