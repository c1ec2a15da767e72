"""The runs of a long study: known results are not computed again, the others get a process for each core.

A run's result is kept, under a name made from everything that it depends on, in a folder of this machine and in the
study's file of results: a stopped study resumes from either.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from threadpoolctl import threadpool_limits

from benchmarks.shared.harness import Row, cached, machine
from benchmarks.shared.stickers import bundle
from edge_sdk.inference.runtime import available_cores

Result: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """name: shown in the progress; key: see `key_of`; work: makes the result, with "seconds", in its own process."""

    name: str
    key: str
    work: Callable[[], Result]


def key_of(facts: Mapping[str, Any]) -> str:
    """Name of a result, made from everything that it depends on."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:20]


def measured(
    runs: Sequence[Run],
    place: Path,
    before: Path | None,
    title: str,
    on_result: Callable[[Mapping[str, Result]], None] | None = None,
) -> dict[str, Result]:
    """Key -> result of every run; runs are begun in their order.

    Args:
        place: where results are kept.
        before: the file of an earlier run, whose lines `run_row` made.
        title: name of the progress bar.
        on_result: called after every new result with all that there are.
    """
    found = known(before)
    results: dict[str, Result] = {}
    left: list[Run] = []
    for run in runs:
        file = place / f"{run.key}.json"
        if file.exists():
            results[run.key] = {"processor": machine()["processor"], **json.loads(file.read_text("utf-8"))}
        elif run.key in found:
            results[run.key] = found[run.key]
        else:
            left.append(run)
    if not left:
        return results
    # Export the bundle once here, and not in every process.
    bundle()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, TextColumn("left"), TimeRemainingColumn()) as progress,
        # Torch and forks of its threads do not go together.
        ProcessPoolExecutor(min(available_cores(), len(left)), multiprocessing.get_context("spawn")) as pool,
    ):
        task = progress.add_task(title, total=len(left))
        jobs: dict[Future[Result], Run] = {pool.submit(_kept, place / f"{run.key}.json", run.work): run for run in left}
        for done in as_completed(jobs):
            run = jobs[done]
            results[run.key] = done.result()
            progress.console.print(f"{run.name}: {results[run.key]['seconds']:.0f} s")
            progress.advance(task)
            if on_result is not None:
                on_result(results)
    return results


def run_row(key: str, result: Result, *, row: str, seed: int) -> Row:
    """The line of a file of results from which a later study resumes; `row` is only for readers."""
    return {"part": "run", "row": row, "seed": seed, "key": key, "result": json.dumps(result)}


def known(before: Path | None) -> dict[str, Result]:
    """Key -> result of the runs in a file of an earlier run. Each result has its "processor", as a study may be resumed
    on another machine."""
    lines = _lines(before)
    common = {"processor": _content(before)["machine"]["processor"]} if lines else {}
    return {line["key"]: common | json.loads(line["result"]) for line in lines}


def seeds(before: Path | None) -> set[int]:
    """The seeds of the runs that a file of an earlier run holds."""
    return {int(line["seed"]) for line in _lines(before)}


def _kept(path: Path, work: Callable[[], Result]) -> Result:
    """One run in a process of the pool; its result is kept when it is complete. BLAS gets one thread: matrices are
    small, and threads that waited for cores of other runs made an aggregation take 178 s instead of 3."""
    with threadpool_limits(1, "blas"):
        result: Result = cached(path, lambda: {**work(), "processor": machine()["processor"]})
    return result


def _lines(before: Path | None) -> list[dict[str, Any]]:
    return [line for line in _content(before)["rows"] if line.get("part") == "run"]


def _content(before: Path | None) -> dict[str, Any]:
    if before is None or not before.exists():
        return {"rows": []}
    found: dict[str, Any] = json.loads(before.read_text("utf-8"))
    return found
