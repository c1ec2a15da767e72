"""The broker on the command line: the options that `join` and `doctor` share, and the settings made of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from edge_sdk.errors import BrokerSettingsInvalid

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
# The password itself is no option: everybody on the machine can see command lines, and shells keep them.
PasswordFile: TypeAlias = Annotated[
    Path | None,
    typer.Option("--password-file", help="File that holds the password.", show_default="the variable IMPASTO_PASSWORD"),
]
ClientId: TypeAlias = Annotated[
    str,
    typer.Option(
        "--client-id",
        help="MQTT client id, where the broker's rules ask for a certain one.",
        show_default="one that nobody can guess",
    ),
]
# An invitation is no option either: it holds a secret, too.
InvitationFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--invitation-file",
        help="File that holds what the operator gave you for this device; needed once.",
        show_default="the variable IMPASTO_INVITATION",
    ),
]


def settings(
    url: str,
    ca: Path | None,
    certificate: Path | None,
    key: Path | None,
    username: str | None,
    password_file: Path | None,
    client_id: str,
) -> Settings:
    """The transport's settings for the options of a command.

    Raises:
        ConfigurationError: the password's file cannot be read, or is empty.
        BrokerSettingsInvalid: the URL makes no sense, or an option contradicts it or would have no effect.
    """
    from edge_sdk.transport import Settings, Tls, check

    password = _secret("password", password_file)
    tls = Tls(ca, certificate, key) if ca or certificate or key else None
    made = Settings(url=url, client_id=client_id, username=username, password=password, tls=tls)
    try:
        check(made)
    except BrokerSettingsInvalid as error:
        if password and not password_file:  # it is the variable's, which is not on the command line
            raise BrokerSettingsInvalid(f"{error} The password is that of the variable IMPASTO_PASSWORD.") from error
        raise
    return made


def invitation(file: Path | None) -> str | None:
    """The text of an invitation, if there is one.

    Raises:
        ConfigurationError: its file cannot be read, or is empty.
    """
    return _secret("invitation", file)


def _secret(name: str, file: Path | None) -> str | None:
    """The content of a file, or else of an environment variable, or None."""
    if file is None:
        return os.environ.get(f"IMPASTO_{name.upper()}") or None
    from edge_sdk.transport import read_secret

    return read_secret(file, f"--{name}-file", name)
