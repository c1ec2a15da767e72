"""Every family of base models at its true size: exported, compared with torch, drawn, adapters switched.

    python -m benchmarks.models [--quick] [--seed N] [--json FILE]

Weights are random. Every model is written, exported and drawn with by processes of their own, one after the other, and
then deleted. Its row is kept in the system's temporary folder: a stopped run resumes with the next model. --quick takes
the same kinds of networks a few channels wide, and keeps nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks.shared.harness import KEPT, Bar, Cell, Report, Row, arguments, cached

PLACE = KEPT / "models"
TOLERANCE = 1e-3
# Deadline of one process; SDXL's export takes longest.
SECONDS = 1800
_ERRORS = {
    "text_error": "text encoders",
    "unet_error": "UNet",
    "unet_with_adapter_error": "UNet with an adapter",
    "vae_error": "autoencoder",
    "preview_error": "quick decoder",
}


@dataclass(frozen=True)
class Plan:
    """Work to do with a model.

    steps: denoising steps of each drawing.
    limit: the memory limit to draw under.
    preview: true if the bundle gets a quick decoder.
    from_picture: true if a picture is also drawn from a picture.
    """

    steps: int = 2
    limit: str | None = None
    preview: bool = False
    from_picture: bool = False


PLANS: Mapping[str, Plan] = {
    "bk-sdm-tiny": Plan(),
    "bk-sdm-small": Plan(),
    "sd15": Plan(preview=True, from_picture=True),
    "lcm": Plan(steps=4),
    "sd21": Plan(),
    "sd-turbo": Plan(steps=1),
    "sdxl": Plan(steps=1, limit="8GB"),
}


class ModelFailed(Exception):
    """A process that worked on a model failed; the message holds its last output."""


def main(given: Sequence[str] | None = None) -> None:
    """Measure and report."""
    assert __doc__ is not None
    chosen = arguments(__doc__.splitlines()[0], given)
    report = Report(chosen, seeds=[chosen.seed])
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("start", total=len(PLANS))
        for name, plan in PLANS.items():

            def tell(what: str, name: str = name) -> None:
                progress.update(task, description=f"{name}: {what}")

            report.rows.append(row_of(name, plan, quick=chosen.quick, seed=chosen.seed, tell=tell))
            progress.advance(task)
    report.bars += bars(report.rows)
    report.finish()


def row_of(
    name: str,
    plan: Plan,
    *,
    quick: bool,
    seed: int,
    tell: Callable[[str], None] = lambda what: None,
    kept: Path = PLACE,
) -> Row:
    """The row of a model, from an earlier run or measured now. A failure's row gives the reason and is not kept."""
    try:
        if quick:
            return measure(name, plan, quick=True, seed=seed, tell=tell)
        row: Row = cached(
            kept / f"{name}-{seed}.json", lambda: measure(name, plan, quick=False, seed=seed, tell=tell, place=kept)
        )
        return row
    except ModelFailed as error:
        return {"model": name, "drawn": 0, "switched": 0, "restored": 0, "note": str(error)}


def measure(
    name: str,
    plan: Plan,
    *,
    quick: bool,
    seed: int,
    tell: Callable[[str], None] = lambda what: None,
    place: Path | None = None,
) -> dict[str, Cell]:
    """Write, export and draw with a model, and delete it.

    place: folder for the model's files; one that a stopped run left there is deleted first.

    Raises:
        ModelFailed: one of the three processes failed.
    """
    folder = Path(tempfile.mkdtemp(prefix="impasto-benchmark-")) if place is None else place / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        row: dict[str, Cell] = {"model": name}
        tell("write the model")
        row |= _run("write", folder, name=name, quick=quick, preview=plan.preview, seed=seed)
        tell("export and verify")
        row |= _run("export", folder)
        shutil.rmtree(folder / "model")
        tell("draw")
        row |= _run("draw", folder, steps=plan.steps, limit=plan.limit, from_picture=plan.from_picture, seed=seed)
        return row
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def bars(rows: Sequence[Row]) -> list[Bar]:
    """Bars of every model, from the rows."""
    found: list[Bar] = []
    for row in rows:
        for cell, what in _ERRORS.items():
            value = row.get(cell)
            if isinstance(value, float):
                found.append(Bar(f"{row['model']}: error of the {what}", value, TOLERANCE))
        for cell, what in (
            ("drawn", "drawn"),
            ("switched", "adapter switched"),
            ("restored", "the same bits without the adapter"),
            ("from_picture", "drawn from a picture"),
        ):
            if (value := row.get(cell)) is not None:
                found.append(Bar(f"{row['model']}: {what}", float(value), 1, "at least"))
    return found


def _run(command: str, folder: Path, **options: Any) -> dict[str, Cell]:
    """Run a command in a process of its own and return its answer."""
    started = [sys.executable, "-c", "from benchmarks.families.one_model import main; main()", command, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    with (folder / "errors.txt").open("w+", encoding="utf-8") as errors:
        try:
            done = subprocess.run(
                [*started, json.dumps(options)],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ModelFailed(f"{command}: not done after {SECONDS} s") from error
        if done.returncode:
            errors.seek(0)
            said = (errors.read().strip().splitlines() or [""])[-1]
            reason = "killed, as by a system that is short of memory" if done.returncode == -9 else said
            raise ModelFailed(f"{command}: {reason}"[:300])
    answer: dict[str, Cell] = json.loads(done.stdout)
    return answer


if __name__ == "__main__":
    main()
