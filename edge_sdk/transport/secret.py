"""Secrets in files of their own, so that they are neither on a command line nor among other settings."""

from __future__ import annotations

from pathlib import Path

from edge_sdk.errors import ConfigurationError


def read_secret(file: Path | str, name: str, what: str) -> str:
    """The content of a text file, without the end of its line and without a byte order mark, which editors add unseen.

    Args:
        file: a text file in UTF-8.
        name: name, in errors, of the setting that names the file.
        what: the kind of secret, such as "password".

    Raises:
        ConfigurationError: it cannot be read, is empty or no text in UTF-8.
    """
    try:
        secret = Path(file).read_text("utf-8-sig").strip("\r\n")
    except OSError as error:
        raise ConfigurationError(f"Cannot read {name} {file}: {error.strerror or error}.") from error
    except UnicodeDecodeError:  # its message would show the secret
        raise ConfigurationError(f"Cannot read {name} {file}: it is no text in UTF-8.") from None
    if not secret:
        raise ConfigurationError(f"{name} {file} is empty: write the {what} into it.")
    return secret
