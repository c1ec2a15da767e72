"""The coordinator's signing keys on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.identity.keys import Keys
from edge_sdk.errors import ConfigurationError
from edge_sdk.wire.messages import MAX_SUCCESSIONS
from edge_sdk.wire.signing import trusted


def test_a_key_is_made_once_and_is_its_owners(tmp_path: Path) -> None:
    first = Keys(tmp_path / "home", "tastes")
    assert Keys(tmp_path / "home", "tastes").signer.public == first.signer.public
    assert Keys(tmp_path / "other", "tastes").signer.public != first.signer.public
    assert (tmp_path / "home" / "keys.json").stat().st_mode & 0o077 == 0


def test_devices_follow_a_rotation(tmp_path: Path) -> None:
    keys = Keys(tmp_path, "tastes")
    pinned = [keys.signer.public]
    for _ in range(3):
        keys.rotate()
        pinned.append(keys.signer.public)
    assert len(set(pinned)) == 4
    again = Keys(tmp_path, "tastes")
    for old in pinned:
        assert trusted(old, again.signer.public, again.successions, "tastes") == pinned[-1]


def test_what_is_said_of_keys_is_bounded(tmp_path: Path) -> None:
    keys = Keys(tmp_path, "tastes")
    for _ in range(MAX_SUCCESSIONS + 3):
        keys.rotate()
    assert len(keys.successions) == MAX_SUCCESSIONS


@pytest.mark.parametrize("content", [b"", b"{}", b'{"private": "AA"', b"[]"])
def test_a_damaged_file_is_not_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "keys.json").write_bytes(content)
    with pytest.raises(ConfigurationError, match="backup"):
        Keys(tmp_path, "tastes")
    assert (tmp_path / "keys.json").read_bytes() == content
