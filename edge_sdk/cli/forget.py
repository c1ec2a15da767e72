"""The command `impasto forget`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_sdk.cli import connection
from edge_sdk.cli.terminal import console
from edge_sdk.streams import printable

if TYPE_CHECKING:
    from edge_sdk.membership import Farewell


def forget(
    federation: Annotated[str, typer.Option("--federation", "-f", help="Its name.", show_default=False)],
    broker: Annotated[
        str | None,
        typer.Option("--broker", help="mqtt://host:1883, or mqtts://host:8883.", show_default=False),
    ] = None,
    home: Annotated[Path, typer.Option(help="The home of the device to be forgotten.")] = Path("~/.impasto"),
    ca: connection.Authority = None,
    certificate: connection.Certificate = None,
    key: connection.Key = None,
    username: connection.Username = None,
    password_file: connection.PasswordFile = None,
    client_id: connection.ClientId = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    local_only: Annotated[
        bool,
        typer.Option("--local-only", help="Tell nobody; delete the files here alone. Without --broker."),
    ] = False,
    deadline: Annotated[float, typer.Option(min=1, help="Longest wait for the coordinator, in seconds.")] = 30.0,
) -> None:
    """Be forgotten by a federation: what it keeps of this device is deleted, and what is here of it.

    impasto forget --broker mqtt://broker:1883 -f stickers

    Your own leaf adapter stays. If it is interrupted, run the same command again: it finishes.
    """
    from edge_sdk.device import CANNOT_BE_TAKEN_BACK
    from edge_sdk.device import forget as forget_device

    settings = None
    if broker is not None:
        settings = connection.settings(broker, ca, certificate, key, username, password_file, client_id)
    where = "the files here alone" if local_only else "what the coordinator keeps of it, and the files here"
    if not yes:
        typer.confirm(f"Forget the device of {home} in {federation!r}: delete {where}?", abort=True)
    done = forget_device(home, settings, federation, local_only=local_only, answer=deadline)
    for line in (_told(done, federation, local_only), _deleted(done, home), f"Not undone: {CANNOT_BE_TAKEN_BACK}."):
        console().print(printable(line), markup=False, soft_wrap=True)


def _told(done: Farewell, federation: str, local_only: bool) -> str:
    if done.confirmed:
        return f"The coordinator of {federation!r} has confirmed that it keeps nothing of {done.device!r}."
    if local_only and done.device is not None:
        return (
            f"The coordinator of {federation!r} was not asked: it keeps what it has of {done.device!r}. Its operator "
            "can shut the device out."
        )
    return f"Nobody was asked: as far as the home says, no coordinator of {federation!r} knows this device."


def _deleted(done: Farewell, home: Path) -> str:
    names = ", ".join(file.name for file in done.deleted) or "nothing was left"
    return f"Deleted in {home}: {names}. A leaf adapter stays: it has never left this device."
