"""The way to a broker on the command line: what `join` and `doctor` are told alike, and the settings made of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from edge_sdk.errors import ConfigurationError

if TYPE_CHECKING:
    from edge_sdk.transport import Settings

DeviceId: TypeAlias = Annotated[
    str | None,
    typer.Option("--device-id", help="This device's name in the federation.", show_default="the one kept in --home"),
]
Authority: TypeAlias = Annotated[
    Path | None, typer.Option("--ca", help="With mqtts: the broker's authority.", show_default="the system's")
]
Certificate: TypeAlias = Annotated[
    Path | None,
    typer.Option("--certificate", help="This device's certificate, if the broker asks for one.", show_default=False),
]
Key: TypeAlias = Annotated[Path | None, typer.Option("--key", help="The certificate's key.", show_default=False)]
Username: TypeAlias = Annotated[
    str | None, typer.Option("--username", help="User name at the broker.", show_default=False)
]
# The password itself is no option: command lines are seen by everybody on the machine, and kept by shells.
PasswordFile: TypeAlias = Annotated[
    Path | None,
    typer.Option("--password-file", help="File that holds the password.", show_default="the variable IMPASTO_PASSWORD"),
]


def settings(
    url: str,
    ca: Path | None,
    certificate: Path | None,
    key: Path | None,
    username: str | None,
    password_file: Path | None,
) -> Settings:
    """How a device connects.

    Raises:
        ConfigurationError: the password's file cannot be read.
    """
    from edge_sdk.transport import Settings, Tls

    password = os.environ.get("IMPASTO_PASSWORD")
    if password_file:
        try:
            password = password_file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"Cannot read --password-file: {error}.") from error
    tls = Tls(ca, certificate, key) if ca or certificate else None
    return Settings(url=url, client_id="", username=username, password=password, tls=tls)
