"""Terminal output of an offline run: a progress bar, a line for every round, and two tables at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from coordinator.simulation.offline.results import Result, RoundResult
from coordinator.telemetry import describe, show_bytes

_TOLD = frozenset({"refused", "round_failed", "clustering_failed", "clusters"})


class Screen:
    """Shows the events of a `Run`. The bar appears on terminals only; lines and tables are printed anywhere.

    Args:
        console: the terminal.
        devices: number of devices.
        rounds: number of rounds.
        steps: training steps of a device in a round.
    """

    def __init__(self, console: Console, devices: int, rounds: int, steps: int) -> None:
        self._console = console
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._rounds = rounds
        self._reading = self._bar.add_task("reading pictures", total=devices)
        self._training = self._bar.add_task("training", total=devices * rounds * steps, start=False)
        self._judging = self._bar.add_task("judging", total=2 * devices, start=False)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the progress bars inside the context."""
        with self._bar:
            yield

    def tell(self, event: str, values: Mapping[str, Any]) -> None:
        """Show one event."""
        match event:
            case "device_opened":
                self._bar.advance(self._reading)
            case "device_judged":
                self._move(self._judging, f"judging {escape(values['device'])}")
            case "step":
                where = f"round {values['round']} of {self._rounds} ({values['stage']}), {escape(values['device'])}"
                self._move(self._training, where)
            case "round_closed":
                refused = ", ".join(f"{device} ({code})" for device, code in values.get("refused", {}).items())
                self._console.print(
                    f"round {values['round']} of {self._rounds} ({values['stage']}): training loss "
                    f"{values['first_loss']:.4f} -> {values['last_loss']:.4f}"
                    + (f", [red]without {escape(refused)}[/red]" if refused else ""),
                    highlight=False,
                )
            case _ if event in _TOLD:
                self._console.print(describe({"event": event, **values}), soft_wrap=True, highlight=False)

    def _move(self, task: Any, description: str) -> None:
        self._bar.start_task(task)
        self._bar.update(task, description=description, advance=1)


def print_result(console: Console, result: Result) -> None:
    """Print a table of the rounds and a table of the devices."""
    held_out = any(device.held_out for device in result.devices.values())
    judged = "pictures held out" if held_out else "the pictures that were learnt from"
    console.print("", _rounds(result.rounds), "", _devices(result), "")
    console.print(f"before, after: mean denoising loss on {judged}, of the base model and with what was learnt")
    better = sum(device.loss_after < device.loss_before for device in result.devices.values())
    console.print(
        f"{better} of {len(result.devices)} devices are better off than with the base model.", highlight=False
    )


def _rounds(rounds: list[RoundResult]) -> Table:
    table = _table("round")
    for column in ("updates", "refused", "training loss", "energy", "sent", "fetched"):
        table.add_column(column, justify="right")
    for one in rounds:
        table.add_row(
            f"{one.round} {one.stage}",
            str(one.updates),
            str(len(one.refused)),
            f"{one.first_loss:.4f} -> {one.last_loss:.4f}",
            _energy(one.retained_energy),
            show_bytes(one.bytes_up),
            show_bytes(one.bytes_down),
        )
    return table


def _devices(result: Result) -> Table:
    table = _table("device")
    for column in ("cluster", "pictures", "held out", "rank", "before", "after", "change"):
        table.add_column(column, justify="right")
    for name, one in sorted(result.devices.items(), key=lambda item: (item[1].cluster, item[0])):
        change = one.loss_after / one.loss_before - 1
        colour = "green" if change < 0 else "red"
        table.add_row(
            escape(name),
            str(one.cluster),
            str(one.pictures),
            str(one.held_out),
            str(min(one.max_rank, result.federation["rank"])),
            f"{one.loss_before:.4f}",
            f"{one.loss_after:.4f}",
            f"[{colour}]{100 * change:+.1f} %[/{colour}]",
        )
    if len(result.devices) > 1:
        sizes = Counter(device.cluster for device in result.devices.values())
        before, after = (
            sum(getattr(device, which) for device in result.devices.values()) / len(result.devices)
            for which in ("loss_before", "loss_after")
        )
        table.add_row()
        gain = f"{100 * (after / before - 1):+.1f} %"
        table.add_row("mean", f"{len(sizes)} in all", "", "", "", f"{before:.4f}", f"{after:.4f}", gain)
    return table


def _table(first: str) -> Table:
    return Table(first, box=None, padding=(0, 2, 0, 0), header_style="bold")


def _energy(retained: float | Mapping[str, float | None] | None) -> str:
    """Return the retained energy in per cent, the least of the clusters."""
    values = retained.values() if isinstance(retained, Mapping) else [retained]
    known = [value for value in values if value is not None]
    return f"{100 * min(known):.1f} %" if known else "-"
