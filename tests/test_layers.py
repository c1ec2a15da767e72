"""Import rules: packages reach each other through their `__init__`, and no import runs back up."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Package -> the packages of the coordinator that it may import. `cli` is the top; it alone imports the simulation.
COORDINATOR: dict[str, set[str]] = {
    "secure_aggregation": set(),
    "rounds": {"secure_aggregation"},
    "methods": set(),
    "ingress": set(),
    "store": {"rounds"},
    "worker_thread": set(),
    "runner": {"rounds", "store"},
    "identity": set(),
    "config": {"rounds", "methods", "ingress"},
    "telemetry": {"rounds", "config", "identity"},
    "learning": {"secure_aggregation", "rounds", "methods", "store", "config", "worker_thread"},
    "transfers": {
        *("rounds", "methods", "ingress", "store", "runner", "learning", "telemetry"),
        "worker_thread",
    },
    "server": {
        *("rounds", "methods", "ingress", "store", "runner", "identity", "config", "telemetry", "learning"),
        "transfers",
    },
    "assist": {"config", "identity", "ingress", "store", "telemetry", "worker_thread"},
    "simulation": {"rounds", "methods", "store", "config", "learning", "telemetry"},
}
# The same inside the rounds.
ROUNDS: dict[str, set[str]] = {"state": set(), "decisions": {"state"}, "machine": {"state", "decisions"}}
# The same of the device's half. Modules that stand by themselves (errors, paths, durable, ...) are for all.
ALONE = {"errors", "exits", "paths", "durable", "lockfile", "libraries", "streams", "mistaken", "service_manager"}
EDGE_SDK: dict[str, set[str]] = {
    "adapter": set(),
    "pictures": set(),
    "privacy": set(),
    "transport": set(),
    "wire": {"adapter", "privacy"},
    "secure_aggregation": {"adapter", "wire"},
    "asyncapi": {"wire", "transport", "secure_aggregation"},
    "inference": {"adapter", "pictures"},
    "membership": {"adapter", "privacy", "wire", "transport", "secure_aggregation"},
    "training": {"adapter", "pictures", "wire", "inference", "membership"},
    "diagnosis": {"wire", "transport", "membership"},
    "codes": {"inference", "privacy"},
    "device": {
        *("adapter", "pictures", "privacy", "transport", "wire", "inference", "membership", "training"),
        "codes",
    },
    "cli": {
        *("adapter", "pictures", "privacy", "transport", "wire", "inference", "membership", "training", "diagnosis"),
        "device",
    },
}
# The same of the export. Only the command line and the whole export know all of its rooms.
EXPORT: dict[str, set[str]] = {
    "lines": set(),
    "public_captions": {"lines"},
    "basis": set(),
    "current": {"public_captions", "source"},
    "source": set(),
    "graphs": set(),
    "precision": {"graphs", "lines"},
    "verify": {"source"},
    "bundle": {"source", "graphs", "precision", "verify", "public_captions", "basis"},
    "cli": {"source", "precision", "public_captions", "bundle"},
}
# Modules with a world behind them, which a pure state machine does without.
WORLD = {
    *("asyncio", "datetime", "os", "pathlib", "random", "secrets", "shutil", "socket", "sqlite3", "subprocess"),
    *("tempfile", "threading", "time"),
}
# What others may import of the SDK: `export` also its way of reading adapters on a command line.
OTHERS = {
    "export": {"adapter", "inference", "pictures", "privacy", "codes", "cli"},
    "coordinator": {
        *("adapter", "wire", "transport", "privacy", "codes", "inference", "membership", "training", "pictures"),
        "secure_aggregation",
    },
}
# Families of methods, the offline command and the parts of drawing are packages in a package.
NESTED = {"coordinator.methods", "coordinator.rounds", "coordinator.simulation", "edge_sdk.inference"}
# Not in an `__init__`: they load what most who import the package do without (pytest, a broker, paho).
PUBLIC_MODULES = {
    "coordinator.methods.aggregation.contract",
    "edge_sdk.cli.adapters",
    "edge_sdk.transport.embedded",
    "edge_sdk.transport.memory",
    "edge_sdk.transport.mqtt.tolerant",
}


def imports(file: Path) -> Iterator[str]:
    """The modules of ours that a file imports, at any place in it; `from package import module` counts as both."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            names = (f"{node.module}.{alias.name}" for alias in node.names if not exports(node.module, alias.name))
            yield from filter(is_module, names)


def exports(package: str, name: str) -> bool:
    """True if a package's `__init__` exports something of that name, which may be a module's as well."""
    init = ROOT.joinpath(*package.split("."), "__init__.py")
    return init.is_file() and f'"{name}"' in init.read_text("utf-8").partition("__all__")[2]


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def package_of(module: str) -> str:
    """The package that a module is a part of, as its own or as others see it."""
    parts = module.split(".")
    depth = 2
    while ".".join(parts[:depth]) in NESTED and ROOT.joinpath(*parts[: depth + 1]).is_dir() and len(parts) > depth:
        depth += 1
    return ".".join(parts[:depth])


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


LAYERS = {"coordinator": COORDINATOR, "edge_sdk": EDGE_SDK, "export": EXPORT}
# Modules without a line: the coordinator's command line, which may import all, and those of the SDK that stand alone.
NO_LINE = {"coordinator": {"cli"}, "edge_sdk": ALONE, "export": set()}
FILES = sorted(file for name in ("coordinator", "edge_sdk", "export") for file in (ROOT / name).rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_no_import_runs_back_up(file: Path) -> None:
    top, *rest = module_of(file).split(".")
    if top not in LAYERS or not rest or (top, rest[0]) == ("coordinator", "cli"):
        return
    if top == "edge_sdk" and rest[0] in ALONE:
        allowed = ALONE
    else:
        allowed = {rest[0], *LAYERS[top][rest[0]], *(ALONE if top == "edge_sdk" else ())}
    used = {name.split(".")[1] for name in imports(file) if name.startswith(f"{top}.")}
    assert used <= allowed, f"{module_of(file)} may not import {sorted(used - allowed)}"


@pytest.mark.parametrize("package", ROUNDS)
def test_no_import_runs_back_up_inside_the_rounds(package: str) -> None:
    files = [*(ROOT / "coordinator" / "rounds" / package).rglob("*.py")]
    assert files
    for file in files:
        used = {name.split(".")[2] for name in imports(file) if name.startswith("coordinator.rounds.")}
        assert used <= {package, *ROUNDS[package]}, module_of(file)


@pytest.mark.parametrize("package", ["coordinator/rounds", "edge_sdk/membership/rounds"])
def test_a_machine_has_no_clock_no_disk_and_no_socket(package: str) -> None:
    files = [*(ROOT / package).rglob("*.py")]
    assert len(files) > 10
    for file in files:
        assert not WORLD & {name.split(".")[0] for name in imports(file)}, module_of(file)


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_who_may_use_the_sdk_and_for_what(file: Path) -> None:
    top = module_of(file).split(".")[0]
    ours = {name.split(".")[0] for name in imports(file)} & {"coordinator", "export", "samples", "benchmarks", "tests"}
    assert ours <= {top} - {"edge_sdk"}
    if top in OTHERS:
        used = {name.split(".")[1] for name in imports(file) if name.startswith("edge_sdk.")}
        assert used <= OTHERS[top] | ALONE


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_packages_reach_each_other_through_their_init(file: Path) -> None:
    own = package_of(module_of(file))
    inside = {
        name
        for name in imports(file)
        if name.split(".")[0] in LAYERS and package_of(name) not in (own, name) and name not in PUBLIC_MODULES
    }
    assert not inside


@pytest.mark.parametrize("top", LAYERS)
def test_no_circle_and_every_package_has_its_line(top: str) -> None:
    layers = LAYERS[top]
    folders = {path.stem for path in (ROOT / top).iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert folders - {"__init__", *NO_LINE[top]} == set(layers)
    done: set[str] = set()
    while ready := {name for name, below in layers.items() if name not in done and below <= done}:
        done |= ready
    assert done == set(layers)


def files_used(file: Path) -> Iterator[str]:
    """The modules and packages whose files a file imports, at any place in it; a module's package is not counted."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            yield from (module if is_module(module) else node.module for module in names.values())


def test_no_files_import_each_other_in_a_circle() -> None:
    """Imports of every kind count: also those for types only, and those inside functions."""
    files = {module_of(file): file for file in FILES}
    left = {name: {used for used in files_used(file) if used in files} - {name} for name, file in files.items()}
    assert sum(map(len, left.values())) > 1000
    while free := [name for name, used in left.items() if not used & left.keys()]:
        for name in free:
            del left[name]
    assert not left


def test_nobody_stands_beside_more_than_two_dozen_others() -> None:
    for folder in {file.parent for file in FILES}:
        beside = [path for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()]
        assert len(beside) <= 24, f"{folder}: {len(beside)}"


def test_tests_of_the_coordinator_have_a_folder_for_each_of_its_packages() -> None:
    packages, folders = (
        {path.name for path in (ROOT / place).iterdir() if (path / "__init__.py").is_file()}
        for place in ("coordinator", "tests/coordinator")
    )
    assert folders == packages
    beside = {path.stem.removeprefix("test_") for path in (ROOT / "tests" / "coordinator").glob("test_*.py")}
    assert beside - {"imports"} <= {path.stem for path in (ROOT / "coordinator").glob("*.py")}


def test_the_page_for_contributors_names_files_that_are_there() -> None:
    page = (ROOT / "docs" / "contributing.md").read_text("utf-8")
    named = set(re.findall(r"`([a-z_]+/[a-z_/]*(?:\.py)?)`", page))
    assert len(named) > 30
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_no_folder_is_a_heap() -> None:
    """No file sits beside more than about a dozen others."""
    folders = {file.parent for file in (*FILES, *(ROOT / "tests" / "coordinator").rglob("*.py"))}
    heaps = {str(folder.relative_to(ROOT)): len([*folder.glob("*.py")]) for folder in folders}
    assert not {folder: count for folder, count in heaps.items() if count > 13}
