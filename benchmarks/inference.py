"""Drawing at real shapes: ours against diffusers, optimum, OpenVINO and stable-diffusion.cpp.

    python -m benchmarks.inference [--quick] [--seed N] [--json FILE]

Every row of `drawing.rivals` has a process of its own, and they take turns, repetition by repetition: only one
computes at a time, so that changes of the machine's speed affect all rows alike. Models, exports, environments and the
results of a shape are kept in the system's temporary folder: a stopped run resumes there. --quick takes a small UNet
and leaves out rows that need more than the installed packages.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from rich.progress import track

from benchmarks.drawing.drawings import first_picture, in_group
from benchmarks.drawing.rival_models import RANK, prepare, prepare_apart
from benchmarks.drawing.rivals import ROWS, WEIGHTS
from benchmarks.families.architectures import ARCHITECTURES
from benchmarks.families.base_models import operations
from benchmarks.shared import limits
from benchmarks.shared.environments import INSTALL_OF, fetched, installed, python_of
from benchmarks.shared.harness import KEPT, NOT_MEASURED, Bar, Cell, Report, Row, arguments, cached, folder_mb, value_of

REPETITIONS = 3
# Steps of each case in a repetition.
TURNS = 2
BATCHES = (1, 2)
ADAPTERS = (0, 1, len(WEIGHTS))
IN_TURNS = [name for name in ROWS if not name.startswith("stable-diffusion.cpp")]
Answer: TypeAlias = dict[str, Any]


def main(given: Sequence[str] | None = None) -> None:
    """Measure and report."""
    assert __doc__ is not None
    chosen = arguments(__doc__.splitlines()[0], given)
    report = Report(chosen, seeds=[chosen.seed])
    if chosen.quick:
        with tempfile.TemporaryDirectory(prefix="impasto-benchmark-") as folder:
            _measure(report, Path(folder), ["small"])
    else:
        _measure(report, KEPT, ["bk-sdm-tiny", "sd15"])
    report.bars += bars(report.rows)
    report.finish()


def _measure(report: Report, folder: Path, shapes: Sequence[str]) -> None:
    quick = report.arguments.quick
    sizes = {} if quick else cached(folder / "installed.json", lambda: installed(folder / "venvs"))
    rates = limits.rates()
    if not quick:
        _cached_row(report, folder / "fetched.json", fetched)
        _cached_row(report, folder / "demo.json", lambda: first_picture(folder))
    for shape in shapes:
        place = folder / shape
        for row in _rows_of(place, folder / "venvs", quick, report.arguments.seed):
            report.rows.append(_with_limits(row, shape, sizes, rates))
        if shape == "bk-sdm-tiny":
            for row in cached(place / "cpp.json", lambda place=place: _cpp(place, folder / "venvs")):  # type: ignore[misc]
                report.rows.append(_with_limits(row, shape, sizes, rates))
        if not quick and (place / "fp32").exists():
            limit = 10**9 if shape == "bk-sdm-tiny" else 2 * 10**9
            for guidance in (7.5, 1.0):
                name = f"group-{guidance:g}.json"
                _cached_row(report, place / name, lambda p=place, n=limit, g=guidance: in_group(p, n, g))  # type: ignore[misc]


def _rows_of(place: Path, environments: Path, quick: bool, seed: int) -> list[Row]:
    """Rows of a shape's steps, from an earlier run or measured now."""
    large = place.name == "sd15"
    missing = prepare(place, seed)
    missing |= prepare_apart(place, environments)
    repetitions = 2 if quick or large else REPETITIONS
    rows: list[Row] = cached(place / "steps.json", lambda: _steps(place, environments, repetitions, missing))
    return rows


def _with_limits(row: Row, shape: str, sizes: Mapping[str, float], rates: Mapping[str, float]) -> Row:
    """A row of steps, with the limit of its arithmetic and the size of its packages added."""
    row = {"part": "step", "shape": shape, **row}
    # stable-diffusion.cpp multiplies in a mixture of precisions, which has no measured limit.
    kind = next((kind for kind in ("bf16", "int8", ".cpp") if kind in str(row["row"])), "fp32")
    if kind in rates and isinstance(row.get("step_s"), float):
        row |= {"limit_s": operations(ARCHITECTURES[shape], int(row["batch"] or 1)) / rates[kind]}
    if row["row"] in INSTALL_OF and INSTALL_OF[str(row["row"])] in sizes:
        row |= {"installed_mb": sizes[INSTALL_OF[str(row["row"])]]}
    return row


class Process:
    """A row in a process of its own."""

    def __init__(self, row: str, folder: Path, python: Path | str = sys.executable) -> None:
        self._process = subprocess.Popen(
            [str(python), "-c", "from benchmarks.drawing.rivals import main; main()", row, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        )
        self.failed = "" if self._read().get("ready") else "it does not start"

    def ask(self, do: str, **what: object) -> Answer:
        """Send a command and wait; {} once the row has failed."""
        if self.failed:
            return {}
        assert self._process.stdin is not None
        print(json.dumps({"do": do, **what}), file=self._process.stdin, flush=True)
        answer = self._read()
        self.failed = answer.get("failed", "" if answer else "its process died")
        return {} if self.failed else answer

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None and self._process.poll() is None:
            self._process.stdin.close()
        self._process.wait()

    def _read(self) -> Answer:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: Answer = json.loads(line) if line else {}
        return answer


def _steps(place: Path, environments: Path, repetitions: int, missing: Mapping[str, str]) -> list[Row]:
    """Steps of all rows in turns: each repetition takes every row, adapters and batch once.

    A row is loaded anew for each repetition: there is not memory for all of them at once.
    """
    rows = [row for row in IN_TURNS if row not in missing]
    notes = dict(missing)
    facts: dict[str, Answer] = {}
    seconds: dict[tuple[str, int, int], list[float]] = {}
    for _ in track(range(repetitions), description=f"{place.name}, repetitions"):
        for row in (row for row in rows if row not in notes):
            if row not in facts:
                with _opened(row, place, environments) as process:
                    # Reads files into the page cache, which has no room for all rows at once, and prepares ours.
                    process.ask("load")
            with _opened(row, place, environments) as process:
                loaded = process.ask("load", watch=True)
                if row not in facts:
                    facts[row] = _first_steps(process, place, row, loaded)
                else:
                    process.ask("step", batch=max(BATCHES))
                _turn(process, row, facts[row], seconds)
            if process.failed:
                notes[row] = f"failed: {process.failed}"
    return [
        _step_row(place, row, adapters, batch, seconds, facts.get(row, {}), notes)
        for row in IN_TURNS
        for adapters in ADAPTERS
        for batch in BATCHES
    ]


@contextmanager
def _opened(row: str, place: Path, environments: Path) -> Iterator[Process]:
    process = Process(row, place, python_of(row, environments))
    try:
        yield process
    finally:
        process.close()


def _turn(process: Process, row: str, facts: Answer, seconds: dict[tuple[str, int, int], list[float]]) -> None:
    cases = [n for n in ADAPTERS if not n or "cannot" not in facts]
    # In turns, because adapters cost less than a machine's speed changes by from minute to minute.
    for batch in BATCHES:
        for adapters in cases * TURNS:
            process.ask("adapt", adapters=adapters)
            answer = process.ask("step", batch=batch)
            if answer:
                # A library that draws whole pictures reports the time of a step itself.
                took = answer["reported"][-1] if "reported" in answer else answer["seconds"]
                seconds.setdefault((row, adapters, batch), []).append(took)


def _first_steps(process: Process, place: Path, row: str, loaded: Answer) -> Answer:
    """Facts that are measured once: memory of loading and stepping, and changing adapters."""
    facts: Answer = {"load_s": loaded.get("seconds"), "anonymous_loaded": loaded.get("anonymous")}
    facts["loading_anonymous"] = loaded.get("anonymous_peak")
    for batch in BATCHES:
        answer = process.ask("step", batch=batch, watch=True, save=str(place / f"{row}-{batch}.npy"))
        facts[f"anonymous_{batch}"], facts[f"peak_{batch}"] = answer.get("anonymous_peak"), answer.get("peak")
    first = process.ask("adapt", adapters=1)
    if not first or "cannot" in first:
        return facts | {"cannot": first.get("cannot", "adapters failed")}
    if not ROWS[row].adapts_apart:
        return facts | {"first_adapter_ms": None, "mix_ms": None, "switch_ms": None}
    for adapters in (len(WEIGHTS), 1):
        process.ask("adapt", adapters=adapters)
        process.ask("step", batch=1)
    mixed = [process.ask("adapt", adapters=n).get("seconds", 0.0) for n in (len(WEIGHTS), 1) * 3]
    return facts | {
        "first_adapter_ms": 1e3 * first["seconds"],
        "mix_ms": 1e3 * statistics.median(mixed[::2]),
        "switch_ms": 1e3 * statistics.median(mixed[1::2]),
    }


def _step_row(
    place: Path,
    row: str,
    adapters: int,
    batch: int,
    seconds: Mapping[tuple[str, int, int], Sequence[float]],
    facts: Answer,
    notes: Mapping[str, str],
) -> Row:
    times = seconds.get((row, adapters, batch))
    cells: dict[str, Cell] = {"row": row, "adapters": adapters, "batch": batch}
    if not times:
        reason = notes.get(row) or f"cannot: {facts.get('cannot', 'no answer')}"
        return cells | {"note": reason if reason.startswith("cannot") else NOT_MEASURED + reason}
    cells |= {"step_s": statistics.median(times), "repetitions": len(times)}
    if not adapters:
        cells |= {
            "load_s": facts["load_s"],
            "anonymous_loaded_mb": _mb(facts["anonymous_loaded"]),
            "anonymous_peak_mb": _mb(facts[f"anonymous_{batch}"]),
            "peak_mb": _mb(facts[f"peak_{batch}"]),
            "disk_mb": _disk(place, row),
            "step_error": _error(place, row, batch),
        }
    elif adapters == 1:
        cells |= {"switch_ms": facts["switch_ms"]}
    else:
        cells |= {"mix_ms": facts["mix_ms"]}
    return cells


def _disk(place: Path, row: str) -> float:
    """Megabytes of the UNet that the row opens, and of the files that it prepared from it."""
    opened = place / ROWS[row].opens
    prepared = _prepared(place, opened) if ROWS[row].prepares else None
    return folder_mb(opened) + (folder_mb(prepared) if prepared else 0.0)


def _prepared(place: Path, unet: Path) -> Path | None:
    from edge_sdk.inference.bundle import Graph, hash_files
    from edge_sdk.inference.runtime import place as place_of

    hashes = {name: value for name, value in hash_files(unet).items() if name.startswith("model.onnx")}
    folder = place_of(Graph(unet / "model.onnx", hashes), place / "cache")
    return folder if folder.exists() else None


def _error(place: Path, row: str, batch: int) -> float | None:
    """Root mean square of the difference to torch in float32, over that of torch's result."""
    wanted, found = (place / f"{name}-{batch}.npy" for name in ("torch fp32", row))
    if not wanted.exists() or not found.exists():
        return None
    exact, other = np.load(wanted), np.load(found)
    return float(np.sqrt(((other - exact) ** 2).mean() / (exact**2).mean()))


def _mb(found: int | None) -> float | None:
    return None if found is None else found / 1e6


def _cpp(place: Path, environments: Path) -> list[Row]:
    """Rows of stable-diffusion.cpp's steps; it draws whole pictures and reports the time of its steps."""
    rows: list[Row] = []
    for row in (name for name in ROWS if name not in IN_TURNS):
        cells: dict[str, Cell] = {"row": row, "adapters": 0, "batch": 1}
        python = python_of(row, environments)
        if not python.exists():
            rows.append({**cells, "note": f"{NOT_MEASURED}not installed"})
            continue
        process = Process(row, place, python)
        loaded = process.ask("load", watch=True)
        answer = process.ask("step", batch=1, watch=True)
        process.close()
        if not answer.get("reported"):
            rows.append({**cells, "note": f"{NOT_MEASURED}{process.failed or 'it reported no step'}"})
            continue
        rows.append(
            cells
            | {
                "step_s": float(answer["reported"][-1]),
                "repetitions": 1,
                "load_s": loaded["seconds"],
                "anonymous_peak_mb": _mb(answer["anonymous_peak"]),
                "peak_mb": _mb(answer["peak"]),
                "disk_mb": folder_mb(place / "model" / "unet"),
            }
        )
    return rows


def _cached_row(report: Report, path: Path, measure: Callable[[], Row]) -> None:
    report.rows.append(cached(path, measure))


def bars(rows: Sequence[Row]) -> list[Bar]:
    """The bars of drawing, from the rows that were measured."""
    found: list[Bar] = []
    for shape in dict.fromkeys(str(row["shape"]) for row in rows if row.get("part") == "step"):
        found += _bars_of(shape, [row for row in rows if row.get("shape") == shape and "step_s" in row])
    for row in rows:
        if row.get("part") == "first picture":
            found.append(Bar("stickers, cold process to first picture, s", value_of(row, "cold_process_s"), 2.0))
        elif row.get("part") == "fetched by pip":
            found.append(Bar("fetched by pip for ours fp32, MB", value_of(row, "fetched_mb"), 120))
        elif row.get("part") == "control group" and row.get("drawn") is not None:
            how = "guided" if value_of(row, "guidance") > 1 else "without guidance"
            name = f"{row['shape']} draws inside {value_of(row, 'limit_mb'):g} MB, {how}"
            found.append(Bar(name, value_of(row, "drawn"), 1, "at least"))
    sizes = [value_of(row, "installed_mb") for row in rows if row.get("row") == "ours fp32" and "installed_mb" in row]
    return found + [Bar("on disk after pip install of ours fp32, MB", size, 120) for size in sizes[:1]]


def _bars_of(shape: str, rows: Sequence[Row]) -> list[Bar]:
    row_of = {(str(row["row"]), int(value_of(row, "adapters")), int(value_of(row, "batch"))): row for row in rows}

    def ratio(what: str, one: tuple[str, int, int], other: tuple[str, int, int]) -> float:
        if one not in row_of or other not in row_of:
            return float("nan")
        return value_of(row_of[one], what) / value_of(row_of[other], what)

    found: list[Bar] = []
    for batch in BATCHES:
        plain_steps = {row: value_of(row_of[row, n, b], "step_s") for row, n, b in row_of if (n, b) == (0, batch)}
        ours = [value for row, value in plain_steps.items() if row.startswith("ours")]
        rest = [value for row, value in plain_steps.items() if not row.startswith("ours")]
        case = f"{shape}, batch {batch}"
        plain, optimum = ("ours fp32", 0, batch), ("optimum", 0, batch)
        if ours and rest:
            found.append(Bar(f"{case}: our fastest step over the fastest other", min(ours) / min(rest), 1.0))
        if optimum in row_of and plain in row_of:
            found.append(Bar(f"{case}: fp32's step over optimum's", ratio("step_s", plain, optimum), 1.0))
            memory = ratio("anonymous_peak_mb", plain, optimum)
            found.append(Bar(f"{case}: fp32's anonymous memory over optimum's", memory, 0.25))
        if plain in row_of and ("ours int8", 0, batch) in row_of:
            found.append(Bar(f"{case}: int8's step over fp32's", ratio("step_s", ("ours int8", 0, batch), plain), 0.6))
        for row in ("ours fp32", "ours int8", "ours OpenVINO bf16"):
            for adapters, most in ((1, 1.02), (len(WEIGHTS), 1.05)):
                if (row, adapters, batch) in row_of:
                    cost = ratio("step_s", (row, adapters, batch), (row, 0, batch))
                    found.append(Bar(f"{case}: {row} with {adapters} of rank {RANK}, over none", cost, most))
    if ("optimum", 0, 1) in row_of and ("ours fp32", 0, 1) in row_of:
        load = ratio("load_s", ("ours fp32", 0, 1), ("optimum", 0, 1))
        found.append(Bar(f"{shape}: fp32's load over optimum's", load, 0.25))
    for row, adapters, batch in row_of:
        if batch == 1 and adapters and row.startswith("ours"):
            what = "switch_ms" if adapters == 1 else "mix_ms"
            found.append(Bar(f"{shape}: {row}, {what}", value_of(row_of[row, adapters, batch], what), 20))
    return found


if __name__ == "__main__":
    main()
