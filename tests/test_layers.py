"""Who may import whom: packages reach each other through their `__init__`, and no import runs back up."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Package -> the packages of the coordinator that it may import. `cli` is the top; it alone imports the simulation.
COORDINATOR = {
    "rounds": set(),
    "methods": set(),
    "ingress": set(),
    "store": {"rounds"},
    "runner": {"rounds", "store"},
    "identity": set(),
    "config": {"rounds", "methods", "ingress"},
    "telemetry": {"rounds", "config", "identity"},
    "learning": {"rounds", "methods", "store", "config"},
    "transfers": {"rounds", "methods", "ingress", "store", "runner", "learning", "telemetry"},
    "server": {
        *("rounds", "methods", "ingress", "store", "runner", "identity", "config", "telemetry", "learning"),
        "transfers",
    },
    "simulation": {"rounds", "methods", "store", "config", "learning", "telemetry"},
}
# Families of methods, and the offline command, are packages in a package.
NESTED = {"coordinator.methods", "coordinator.simulation"}
# What tests of other packages' methods inherit from: it needs pytest, so that no `__init__` imports it.
PUBLIC_MODULES = {"coordinator.methods.aggregation.contract"}


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
    """Whether a package's `__init__` offers something of that name, which may be a module's as well."""
    init = ROOT.joinpath(*package.split("."), "__init__.py")
    return init.is_file() and f'"{name}"' in init.read_text("utf-8").partition("__all__")[2]


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def package_of(module: str) -> str:
    """The package that a module is a part of, as its own or as others see it."""
    parts = module.split(".")
    depth = 3 if ".".join(parts[:2]) in NESTED and len(parts) > 2 and ROOT.joinpath(*parts[:3]).is_dir() else 2
    return ".".join(parts[:depth])


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = sorted((ROOT / "coordinator").rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_no_import_runs_back_up(file: Path) -> None:
    own = module_of(file).split(".")
    if len(own) < 2 or own[1] == "cli":
        return
    allowed = {own[1], *COORDINATOR[own[1]]}
    used = {name.split(".")[1] for name in imports(file) if name.startswith("coordinator.")}
    assert used <= allowed, f"{'.'.join(own)} may not import {sorted(used - allowed)}"


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_packages_reach_each_other_through_their_init(file: Path) -> None:
    own = package_of(module_of(file))
    inside = {
        name
        for name in imports(file)
        if name.startswith("coordinator.") and package_of(name) not in (own, name) and name not in PUBLIC_MODULES
    }
    assert not inside


def test_no_circle_and_every_package_has_its_line() -> None:
    folders = {path.stem for path in (ROOT / "coordinator").iterdir() if path.suffix in ("", ".py")}
    assert folders - {"__init__", "__pycache__", "cli", "py"} == set(COORDINATOR)
    done: set[str] = set()
    while ready := {name for name, below in COORDINATOR.items() if name not in done and below <= done}:
        done |= ready
    assert done == set(COORDINATOR)


def test_nobody_stands_beside_more_than_two_dozen_others() -> None:
    for folder in {file.parent for file in FILES}:
        beside = [path for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()]
        assert len(beside) <= 24, f"{folder}: {len(beside)}"
