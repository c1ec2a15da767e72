"""`make demo`: a broker, a coordinator and devices as processes on this machine, then a report.

python -m samples.demo --devices 8 --rounds 5 --seed 0

A demo that was interrupted goes on when it is started again with the same options.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from edge_sdk.errors import DeadlineExceeded, ImpastoError
from edge_sdk.inference import compute_base_id
from edge_sdk.transport.embedded import EmbeddedBroker
from export import is_current
from samples.demo import report
from samples.demo.live import Tail, View
from samples.demo.plan import DevicePlan, make_plan, write_folder
from samples.demo.settings import FEDERATION, LAYERS, LEARNING_RATE, RESULT, Settings
from samples.stickers.judge import GUIDANCE

# Seconds. Long, so that no slow device is left out; a device's process that ends is noticed at once.
ROUND_DEADLINE = 6 * 3600.0
MODEL = Path(__file__).parents[1] / "stickers" / "model"


class ProcessFailed(ImpastoError):
    """A process of the demo ended with an error."""


def main(
    devices: Annotated[
        int, typer.Option(min=4, help="Devices, each a process; four hidden taste groups share them.")
    ] = 8,
    rounds: Annotated[int, typer.Option(min=2, help="Rounds.")] = 7,
    seed: Annotated[int, typer.Option(help="Deals pictures, starts adapters, starts drawings.")] = 0,
    out: Annotated[
        Path, typer.Option(help="Folder of the report; a finished demo there is replaced, an unfinished one goes on.")
    ] = Path("out/demo"),
    steps: Annotated[int, typer.Option(min=1, help="Training steps a round and device.")] = 12,
    judged: Annotated[int, typer.Option(min=1, help="Pictures that each device draws with each set of adapters.")] = 8,
    patience: Annotated[
        float, typer.Option(min=0.1, help="Give up when no device has got on for so many minutes.")
    ] = 15.0,
    afresh: Annotated[bool, typer.Option("--afresh", help="Begin anew where an unfinished demo could go on.")] = False,
) -> None:
    """Run a federation of devices that learn from real pictures, and write a report of it."""
    console = Console()
    seconds: dict[str, float] = {}
    with ExitStack() as stack:
        broker = stack.enter_context(EmbeddedBroker())
        settings = Settings(
            out=str(out), model=str(MODEL), base_id=compute_base_id(MODEL), bundle=str(out.parent / "bundle"),
            broker=broker.url, devices=devices,
            rounds=rounds, steps=steps, rank=8, batch_size=8, seed=seed,
            judged=judged, draw_steps=15, guidance=GUIDANCE, deadline=ROUND_DEADLINE,
        )  # fmt: skip
        plans = make_plan(devices, seed)
        with _stage(seconds, "prepare", console, "preparing folders and the bundle"):
            if not afresh and _can_go_on(settings):
                console.print(f"Going on with the demo in {out}. To begin anew: --afresh", highlight=False)
                seconds |= _earlier_seconds(settings)
                settings.save()
                _write_federation(settings)
            else:
                _lay_out(settings, plans)
            _export(settings)
        with _stage(seconds, "federation", console, None):
            began = time.monotonic()
            coordinator = stack.enter_context(_process(_coordinator(settings), out / "coordinator.log"))
            running = {
                plan.id: stack.enter_context(_process(_device(settings, plan), settings.device_folder(plan.id) / "log"))
                for plan in plans
                if not (settings.device_folder(plan.id) / RESULT).exists()
            }
            try:
                _watch(settings, plans, running, coordinator, console, 60 * patience)
            finally:
                spent = seconds.get("federation", 0.0) + time.monotonic() - began
                _seconds_file(settings).write_text(json.dumps({**seconds, "federation": spent}), "utf-8")
    with _stage(seconds, "report", console, "judging and drawing hybrids"):
        outcomes = report.read_outcomes(settings, plans)
        verdicts = report.judge_all(outcomes)
        hybrid = report.draw_hybrid(settings, outcomes)
    seconds["total"] = sum(seconds.values())
    events = list(Tail(out / "events.jsonl").read())
    _, verdict = report.write(settings, outcomes, events, seconds, verdicts, hybrid)
    table = Table(box=None, header_style="dim")
    for heading in ("", "measured", "wanted", ""):
        table.add_column(heading)
    for bar in verdict:
        table.add_row(bar.name, bar.shown, bar.wanted, "[green]holds" if bar.holds else "[red]does not hold")
    console.print(table)
    console.print(f"{seconds['total']:.0f} s. Report: {out / 'index.html'} and {out / 'report.json'}", highlight=False)


@contextmanager
def _stage(seconds: dict[str, float], name: str, console: Console, words: str | None) -> Iterator[None]:
    started = time.monotonic()
    with console.status(words) if words else ExitStack():
        yield
    seconds[name] = seconds.get(name, 0.0) + time.monotonic() - started


def _can_go_on(settings: Settings) -> bool:
    """True if there is an unfinished demo with these settings."""
    if not _federation_file(settings).exists() or (settings.folder / "report.json").exists():
        return False
    try:
        return Settings.load(settings.file).agrees_with(settings)
    except (OSError, msgspec.DecodeError):
        return False


def _seconds_file(settings: Settings) -> Path:
    return settings.folder / "seconds.json"


def _earlier_seconds(settings: Settings) -> dict[str, float]:
    """Stage -> seconds that an interrupted demo has taken so far; empty if it was killed."""
    try:
        return msgspec.json.decode(_seconds_file(settings).read_bytes(), type=dict[str, float])
    except (OSError, msgspec.DecodeError):
        return {}


def _lay_out(settings: Settings, plans: Sequence[DevicePlan]) -> None:
    """Make the demo's folder anew; empty an existing one only if it is a demo's."""
    if settings.folder.exists():
        if any(settings.folder.iterdir()) and not settings.file.exists():
            raise ImpastoError(f"{settings.folder} is not empty and holds no demo: choose another --out.")
        shutil.rmtree(settings.folder)
    settings.folder.mkdir(parents=True)
    settings.save()
    for plan in plans:
        write_folder(plan.pictures, settings.device_folder(plan.id) / "pictures")
        write_folder(plan.held_out, settings.device_folder(plan.id) / "held_out")
    _write_federation(settings)


def _federation_file(settings: Settings) -> Path:
    return settings.folder / "stickers.toml"


def _write_federation(settings: Settings) -> None:
    """Write the federation's file, as an operator would; it is the last file of a folder that is laid out."""
    values = {
        "name": FEDERATION, "broker": settings.broker, "bundle": str(Path(settings.bundle).resolve()),
        "min_devices": settings.devices, "rounds": settings.rounds,
        "deadline": settings.deadline, "rank": settings.rank, "steps": settings.steps, "quorum": 1.0,
        "batch_size": settings.batch_size, "learning_rate": LEARNING_RATE, "seed": settings.seed,
        "layers": LAYERS,
    }  # fmt: skip
    # TOML values of these kinds look as in JSON.
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
    _federation_file(settings).write_text(text, "utf-8")


def _export(settings: Settings) -> None:
    """Export the base model with slots for `LAYERS`, unless an earlier demo's bundle is what this would make."""
    if is_current(Path(settings.bundle), Path(settings.model), LAYERS):
        return
    command = [
        str(Path(sys.executable).with_name("impasto-export")),
        settings.model, settings.bundle, "--slots", LAYERS, "--overwrite",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ProcessFailed(f"The export failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _coordinator(settings: Settings) -> list[str]:
    files = [str(_federation_file(settings)), "--once", "--events", str(settings.folder / "events.jsonl")]
    return [str(Path(sys.executable).with_name("impasto-coordinator")), "serve", *files]


def _device(settings: Settings, plan: DevicePlan) -> list[str]:
    return [sys.executable, "-m", "samples.demo.device", str(settings.file), plan.id]


@contextmanager
def _process(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command with its output in a file; at the end it is terminated, and killed if it goes on."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _watch(
    settings: Settings,
    plans: Sequence[DevicePlan],
    running: Mapping[str, subprocess.Popen[bytes]],
    coordinator: subprocess.Popen[bytes],
    console: Console,
    patience: float,
) -> None:
    """Show the live view until every device is done.

    patience: longest time in seconds without an event of any device. A slow machine alone ends no demo.

    Raises:
        ProcessFailed: a device or the coordinator ended with an error.
        DeadlineExceeded: no device reported an event within `patience`.
    """
    view = View({plan.id: plan.group for plan in plans})
    tails = {plan.id: Tail(settings.device_folder(plan.id) / "events.jsonl") for plan in plans}
    served = Tail(settings.folder / "events.jsonl")
    moved = time.monotonic()
    with Live(view, console=console, refresh_per_second=2, transient=True):
        while True:
            codes = {device: process.poll() for device, process in running.items()}
            failed = [device for device, code in codes.items() if code]
            for event in served.read():
                view.take_coordinator(event)
            for device, tail in tails.items():
                for event in tail.read():
                    view.rows[device].take(event)
                    moved = time.monotonic()
            if failed:
                raise ProcessFailed(_last_words(failed[0], settings.device_folder(failed[0]) / "log"))
            if coordinator.poll():
                raise ProcessFailed(_last_words("the coordinator", settings.folder / "coordinator.log"))
            if all(code == 0 for code in codes.values()):
                return
            if time.monotonic() - moved > patience:
                raise DeadlineExceeded(
                    f"No device has got on for {patience / 60:g} minutes. The logs are in {settings.folder}; the same "
                    "command goes on from here."
                )
            time.sleep(0.25)


def _last_words(who: str, log: Path) -> str:
    return f"{who} ended with an error ({log}):\n{log.read_text('utf-8', errors='replace')[-2000:]}"


def _run() -> NoReturn:
    # SIGTERM raises an exception like Ctrl-C, so that no device, coordinator or broker is left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        typer.run(main)
    except ImpastoError as error:
        Console(stderr=True).print(f"[red]{type(error).__name__}[/red]: {error}", highlight=False, markup=True)
        sys.exit(1)
    sys.exit(0)


if __name__ == "__main__":
    _run()
