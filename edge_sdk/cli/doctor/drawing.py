"""The part of `impasto doctor` about drawing: processor, memory, back ends, cache, bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType


def look(bundle: Path | None, cache: Path | None, threads: int | None, empty_cache: bool) -> dict[str, Any]:
    """Means of drawing of this device, as plain values."""
    from edge_sdk.errors import ConfigurationError
    from edge_sdk.inference.runtime import cache as caching

    try:
        folder: Path | None = caching.cache_folder(cache)
        missing = ""
    except ConfigurationError as error:  # this user has no home folder
        if cache or empty_cache:
            raise
        folder, missing = None, str(error)
    freed = caching.empty(folder) if folder and empty_cache else None
    found = _device(folder, threads) | ({"bundle": _bundle(bundle, folder)} if bundle else {})
    if missing:
        found["cache"]["reason"] = missing
    if freed is not None:
        found["cache"]["freed"] = freed
    return found


def _device(cache: Path | None, threads: int | None) -> dict[str, Any]:
    import onnxruntime as ort

    from edge_sdk.errors import BackendUnavailable
    from edge_sdk.inference.runtime import AUTO, BACKENDS, Settings, choose, hardware, probe, rate
    from edge_sdk.inference.runtime import cache as caching

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
        "cache": {"folder": str(cache) if cache else None, "size": caching.size(cache) if cache else 0},
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


def report(found: dict[str, Any]) -> list[RenderableType]:
    """The same for a terminal."""
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
