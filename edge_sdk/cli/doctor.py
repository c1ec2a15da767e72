"""The command `impasto doctor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_sdk.cli import connection
from edge_sdk.cli.terminal import console
from edge_sdk.exits import Exit

if TYPE_CHECKING:
    from rich.console import RenderableType


def doctor(
    bundle: Annotated[
        Path | None, typer.Option("--bundle", "-b", help="Look at a bundle too.", show_default=False)
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder of prepared bundles.", show_default="$IMPASTO_CACHE, or your cache folder"),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.", show_default="all cores")] = None,
    empty_cache: Annotated[bool, typer.Option("--empty-cache", help="Delete what was prepared.")] = False,
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

    Shows the processor, the memory, and which back ends work, by running each of them. With a bundle: whether it is
    whole, whether it is prepared for this processor, and how much disk that takes.

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
        found = _drawing(bundle, cache, threads, empty_cache)
        if not as_json:
            for part in _report(found):
                console().print(part)
    if broker:
        from edge_sdk.cli import way

        settings = connection.settings(broker, ca, certificate, key, username, password_file, client_id)
        found["way"] = way.look(settings, federation, device_id, trust, home, show=not as_json)
    if as_json:
        print(json.dumps(found))
    whole = "bundle" not in found or found["bundle"]["whole"]
    if not whole or any(finding["status"] == "broken" for finding in found.get("way", ())):
        raise typer.Exit(Exit.UNUSABLE)


def _drawing(bundle: Path | None, cache: Path | None, threads: int | None, empty_cache: bool) -> dict[str, Any]:
    from edge_sdk.errors import ConfigurationError
    from edge_sdk.inference.runtime import prepare

    try:
        folder: Path | None = prepare.cache_folder(cache)
        missing = ""
    except ConfigurationError as error:  # this user has no home folder
        if cache or empty_cache:
            raise
        folder, missing = None, str(error)
    freed = prepare.empty(folder) if folder and empty_cache else None
    found = _device(folder, threads) | ({"bundle": _bundle(bundle, folder)} if bundle else {})
    if missing:
        found["cache"]["reason"] = missing
    if freed is not None:
        found["cache"]["freed"] = freed
    return found


def _device(cache: Path | None, threads: int | None) -> dict[str, Any]:
    import onnxruntime as ort

    from edge_sdk.errors import BackendUnavailable
    from edge_sdk.inference.runtime import AUTO, BACKENDS, Settings, choose, hardware, prepare, probe, rate

    settings = Settings(threads=threads)
    cores, processor, memory = hardware.usable_cores(), hardware.processor(), hardware.memory()
    backends = {}
    for name, backend in BACKENDS.items():
        verdict = probe(backend, settings)
        backends[name] = {
            "title": backend.title,
            "works": verdict.works,
            "reason": verdict.reason,
            "gflops": round(rate(backend, settings) / 1e9, 1) if verdict.works else None,
            "auto": name in AUTO,
        }
    try:
        choice = choose("auto", settings)
        auto: dict[str, str | None] = {"backend": choice.backend.name, "reason": choice.reason}
    except BackendUnavailable as error:
        auto = {"backend": None, "reason": str(error)}
    return {
        "processor": processor.name,
        "cores": {"count": cores.count, "reason": cores.reason},
        "memory": {
            "total": memory[0] if memory else None,
            "available": memory[1] if memory else None,
            "limit": hardware.memory_limit(),
        },
        "onnxruntime": ort.__version__,
        "backends": backends,
        "auto": auto,
        "cache": {"folder": str(cache) if cache else None, "size": prepare.size(cache) if cache else 0},
    }


def _bundle(folder: Path, cache: Path | None) -> dict[str, Any]:
    from edge_sdk.errors import BundleError, PreparedElsewhere
    from edge_sdk.inference import Bundle
    from edge_sdk.inference.runtime import graphs, prepare

    try:
        bundle = Bundle.load(folder)
    except BundleError as error:
        return {"folder": str(folder), "whole": False, "reason": str(error), "stages": {}}
    stages: dict[str, Any] = {}
    for name, graph in graphs(bundle).items():
        state, needed = "small, drawn with as it is", 0
        if prepare.pays(graph) and cache is None:
            state = "not prepared, there is no cache"
        elif prepare.pays(graph) and cache:
            try:
                ready = prepare.find(graph, cache) is not None
                state, needed = ("prepared", 0) if ready else ("not prepared", prepare.disk_needed(graph))
            except PreparedElsewhere as error:
                state = str(error)
        stages[name] = {"size": graph.size, "state": state, "disk_needed": needed}
    return {"folder": str(folder), "whole": True, "reason": "every file is as it was exported", "stages": stages}


def _report(found: dict[str, Any]) -> list[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    from edge_sdk.inference.runtime import show_size

    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    for name, value in _facts(found).items():
        facts.add_row(name, Text(value))
    backends = Table("back end", "", "GFLOP/s", "", box=None, padding=(0, 2, 0, 0))
    backends.columns[2].justify = "right"
    for name, backend in found["backends"].items():
        mark = Text("works", "green") if backend["works"] else Text("no", "dim")
        speed = f"{backend['gflops']:.0f}" if backend["works"] else ""
        backends.add_row(name, mark, speed, Text(backend["reason"], "" if backend["works"] else "dim"))
    auto = Text.assemble(
        ("auto", "bold"), f" draws with {found['auto']['backend'] or 'nothing'}: {found['auto']['reason']}"
    )
    parts: list[RenderableType] = [facts, "", backends, "", auto]
    if "bundle" in found and found["bundle"]["stages"]:
        stages = Table("stage", "size", "", box=None, padding=(0, 2, 0, 0))
        stages.columns[1].justify = "right"
        for name, stage in found["bundle"]["stages"].items():
            needs = f"; takes up to {show_size(stage['disk_needed'])} of disk" if stage["disk_needed"] else ""
            stages.add_row(name, show_size(stage["size"]), Text(stage["state"] + needs))
        parts += ["", stages]
    return parts


def _facts(found: dict[str, Any]) -> dict[str, str]:
    from edge_sdk.inference.runtime import show_size

    cores, memory, cache = found["cores"], found["memory"], found["cache"]
    limit = f"; the container may use {show_size(memory['limit'])}" if memory["limit"] else ""
    known = (
        f"{show_size(memory['total'])}, {show_size(memory['available'])} available" if memory["total"] else "unknown"
    )
    emptied = f", {show_size(cache['freed'])} deleted" if "freed" in cache else ""
    facts = {
        "processor": found["processor"],
        "cores": f"{cores['count']}: {cores['reason']}",
        "memory": known + limit,
        "onnxruntime": found["onnxruntime"],
        "cache": cache.get("reason") or f"{cache['folder']}, {show_size(cache['size'])}{emptied}",
    }
    if "bundle" in found:
        bundle = found["bundle"]
        facts["bundle"] = f"{bundle['folder']}: {'whole' if bundle['whole'] else 'not whole'}; {bundle['reason']}"
    return facts
