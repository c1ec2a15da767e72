"""The coordinator's signing keys on disk: the current one, and the earlier keys' statements about their successors.

keys.json   {"private": base64, "successions": [...]}, readable by its owner alone
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from edge_sdk import durable
from edge_sdk.errors import ConfigurationError
from edge_sdk.wire import MAX_SUCCESSIONS, Key, Signer, Succession, new_key


class _File(msgspec.Struct, frozen=True):
    private: Key
    successions: list[Succession] = []


class Keys:
    """The keys of a federation in its coordinator's home; created at the first start.

    Attributes:
        signer: signs with the current key.

    Raises:
        ConfigurationError: the file cannot be read or written.
    """

    def __init__(self, home: Path, federation: str) -> None:
        self._path = home / "keys.json"
        self._federation = federation
        self._content = self._read() or self._write(_File(new_key()))
        self.signer = self._signer()

    @property
    def successions(self) -> list[Succession]:
        """Statements of earlier keys about their successors, the oldest first."""
        return self._content.successions

    def rotate(self) -> None:
        """Create a new key, signed by the old one; the old private key is deleted.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        private = new_key()
        said = self.signer.succession(Signer(private, self._federation).public)
        self._content = self._write(_File(private, [*self.successions, said][-MAX_SUCCESSIONS:]))
        self.signer = self._signer()

    def _signer(self) -> Signer:
        return Signer(self._content.private, self._federation)

    def _read(self) -> _File | None:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_File)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigurationError(
                f"Cannot read the signing key {self._path}: {error}. Devices trust this key only: bring it back from a "
                "backup. Without one, delete the file and tell every device's owner the new fingerprint."
            ) from error

    def _write(self, content: _File) -> _File:
        try:
            durable.private_folder(self._path.parent)
            durable.write(self._path, msgspec.json.format(msgspec.json.encode(content)), private=True)
        except OSError as error:
            raise ConfigurationError(f"Cannot write the signing key {self._path}: {error}.") from error
        return content
