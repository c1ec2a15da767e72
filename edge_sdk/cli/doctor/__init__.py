"""The command `impasto doctor`: this file has the command, `drawing` what the device draws with, `board` the board,
`way` the way to a federation, `findings` how findings look.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_sdk.cli import connection
from edge_sdk.cli.terminal import console
from edge_sdk.exits import Exit


def doctor(
    bundle: Annotated[
        Path | None, typer.Option("--bundle", "-b", help="Look at a bundle too.", show_default=False)
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder of prepared bundles.", show_default="$IMPASTO_CACHE, or your cache folder"),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.", show_default="all cores")] = None,
    empty_cache: Annotated[
        bool, typer.Option("--empty-cache", help="Delete what was prepared, and kept encodings of pictures.")
    ] = False,
    broker: Annotated[
        str | None, typer.Option(help="Look at the way to a federation: mqtt://host:1883.", show_default=False)
    ] = None,
    federation: Annotated[
        str | None,
        typer.Option("--federation", "-f", help="Its name: look at its coordinator too.", show_default=False),
    ] = None,
    device_id: connection.DeviceId = None,
    home: Annotated[
        Path | None,
        typer.Option(
            help="This device's home: compare the coordinator's key with the one trusted there.", show_default=False
        ),
    ] = None,
    ca: connection.Authority = None,
    certificate: connection.Certificate = None,
    key: connection.Key = None,
    username: connection.Username = None,
    password_file: connection.PasswordFile = None,
    client_id: connection.ClientId = "",
    trust: Annotated[
        str | None, typer.Option(help="Fingerprint that the coordinator's key should have.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")] = False,
) -> None:
    """Check what this device can draw with, or its way to a federation.

    impasto doctor -b bundle/

    Shows the processor, the memory, and which back ends work, by running each of them; and what the board says about
    its power supply, throttling, temperature, battery and limits of memory. With a bundle: whether it is whole, whether
    it is prepared for this processor, and how much disk that takes.

    impasto doctor --broker mqtts://broker -f stickers --device-id pi-4 --ca ca.pem

    With --broker it checks the way to a federation instead: broker, encryption, certificates, clock, limits, access
    rules, coordinator. It says what is wrong, why, and what to do next. It disturbs nobody, not even this device
    while it takes part, unless both are given the same --client-id.

    The exit code is 1 if the bundle cannot be drawn with, or if something on the way is broken.
    """
    about_federation = (federation, device_id, home, ca, certificate, key, username, password_file, client_id, trust)
    if broker is None and any(about_federation):
        raise typer.BadParameter("this is about a federation: name its --broker, too.")
    if trust:
        from edge_sdk.wire import read_fingerprint

        read_fingerprint(trust)  # a text that is no fingerprint is refused before anything else
    if broker and not federation and (trust or home or (device_id and not certificate)):
        raise typer.BadParameter(
            "--device-id, --home and --trust are about a federation's topics and coordinator: name it with "
            "--federation, too, or leave them out to look at the broker alone."
        )
    found: dict[str, Any] = {}
    if bundle or broker is None or cache or threads or empty_cache:
        from edge_sdk.cli.doctor import board, drawing

        found = drawing.look(bundle, cache, threads, empty_cache)
        if not as_json:
            for part in drawing.report(found):
                console().print(part)
        found["board"] = board.look(show=not as_json)
    if broker:
        from edge_sdk.cli.doctor import way

        settings = connection.settings(broker, ca, certificate, key, username, password_file, client_id)
        found["way"] = way.look(settings, federation, device_id, trust, home, show=not as_json)
    if as_json:
        print(json.dumps(found))
    whole = "bundle" not in found or found["bundle"]["whole"]
    if not whole or any(finding["status"] == "broken" for finding in found.get("way", ())):
        raise typer.Exit(Exit.UNUSABLE)
