"""Parts that all benchmarks share: arguments, the machine, bars, the file of results."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from edge_sdk import durable
from edge_sdk.pictures import format_of

# Intermediate results that later runs use again.
KEPT = Path(tempfile.gettempdir()) / "impasto-benchmarks"
NOT_MEASURED = "not measured: "
Cell: TypeAlias = str | int | float | None
Row: TypeAlias = Mapping[str, Cell]
_PACKAGES = ("onnxruntime", "numpy", "torch", "diffusers", "onnx")
# Wide enough for the rows, even if the output is a file.
_console = Console(width=max(shutil.get_terminal_size().columns, 160))


@dataclass(frozen=True)
class Arguments:
    """Arguments of the command line. seed: source of all randomness; sheet: only of benchmarks that draw one."""

    quick: bool
    seed: int
    json: Path | None
    sheet: Path | None = None


@dataclass(frozen=True)
class Bar:
    """A measured value and the bound that it is held against."""

    name: str
    value: float
    bar: float
    kind: Literal["at most", "at least"] = "at most"

    @property
    def holds(self) -> bool:
        """True if the value keeps the bound; NaN never does."""
        return self.value <= self.bar if self.kind == "at most" else self.value >= self.bar


@dataclass
class Report:
    """Rows and bars of one run, printed and written by `finish`."""

    arguments: Arguments
    seeds: Sequence[int]
    rows: list[Row] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)

    def finish(self, hide: str | None = None) -> None:
        """Show the results, except rows of the part `hide`, and write them if a file was asked for."""
        _show(row for row in self.rows if hide is None or row.get("part") != hide)
        for bar in self.bars:
            mark = "[green]holds[/]" if bar.holds else "[red]fails[/]"
            _console.print(f"{mark}  {bar.name}: {bar.value:.4g}, {bar.kind} {bar.bar:g}", highlight=False)
        self.write()

    def write(self) -> None:
        """Write the results so far, if a file was asked for."""
        if self.arguments.json is not None:
            self.arguments.json.parent.mkdir(parents=True, exist_ok=True)
            durable.write(self.arguments.json, f"{json.dumps(self.to_dict(), indent=1)}\n".encode())

    def to_dict(self) -> dict[str, object]:
        """The content of the file of results."""
        return {
            "command": _command(),
            "date": date.today().isoformat(),
            "machine": machine(),
            "seeds": list(self.seeds),
            "rows": [dict(row) for row in self.rows],
            "bars": [
                {"name": bar.name, "value": bar.value, "bar": bar.bar, "kind": bar.kind, "holds": bar.holds}
                for bar in self.bars
            ],
        }


def arguments(description: str, given: Sequence[str] | None = None, *, sheet: bool = False) -> Arguments:
    """Read the arguments that every benchmark has; with `sheet` also a file for pictures, for full runs only."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a small form of it, for CI; its figures are rough")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    if sheet:
        parser.add_argument("--sheet", type=Path, metavar="FILE", help="where to write a page of pictures")
    found = Arguments(**vars(parser.parse_args(given)))
    if found.quick and found.sheet is not None:
        parser.error("--sheet is for the full form: leave out --quick")
    if found.sheet is not None and format_of(found.sheet) is None:
        parser.error(f"{found.sheet} has no suffix of a picture format that can be written; use .png")
    check_outputs(parser, found.json, found.sheet)
    return found


def check_outputs(parser: argparse.ArgumentParser, *files: Path | None) -> None:
    """End with the parser's error unless these files can be written; their folders are made."""
    try:
        for file in files:
            if file is not None:
                durable.check(file)
    except OSError as error:
        parser.error(f"cannot write {error.filename}: {error.strerror}")


def machine() -> dict[str, str | int | float]:
    """Facts that the figures depend on: processor, usable cores, memory, Python and libraries."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found: dict[str, str | int | float] = {
        "processor": _processor(),
        "cores": cores,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found["memory_gb"] = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)
    found |= {package: version(package) for package in _PACKAGES if find_spec(package) is not None}
    return found


def cached(path: Path, measure: Callable[[], Any]) -> Any:
    """The measurement kept in this file, measured now if the file does not exist; it is written whole or not at all."""
    if not path.exists():
        found = measure()
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write(path, json.dumps(found).encode())
    return json.loads(path.read_text("utf-8"))


def value_of(row: Row, name: str) -> float:
    """The number in a cell; NaN, which keeps no bound, if it holds none."""
    value = row.get(name)
    return float(value) if isinstance(value, int | float) else float("nan")


def standard_error(values: Sequence[float] | npt.NDArray[np.float64]) -> float | None:
    """Standard error of a mean, of seeds or owners; None with one value."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None


def folder_mb(folder: Path) -> float:
    """Megabytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return names[0] if names else platform.processor() or "unknown"


def _command() -> str:
    """The command line, without the interpreter's path."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    name = spec.name if spec is not None else Path(sys.argv[0]).name
    return " ".join(["python -m", name, *sys.argv[1:]])


def _show(rows: Iterable[Row]) -> None:
    """Print a table for each set of columns, in the order of the rows."""
    tables: dict[tuple[str, ...], Table] = {}
    for row in rows:
        table = tables.setdefault(tuple(row), Table(*row, box=None))
        table.add_row(*(_cell(cell) for cell in row.values()))
    for table in tables.values():
        _console.print(table)


def _cell(value: Cell) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
