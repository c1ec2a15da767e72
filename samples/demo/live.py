"""The demo's live view: a table of devices and the coordinator's last words, fed by the event files."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text


class Tail:
    """The new lines of a JSON-lines file at every call; the file may not be there yet."""

    def __init__(self, file: Path) -> None:
        self._file, self._at = file, 0

    def read(self) -> Iterator[dict[str, Any]]:
        if not self._file.exists():
            return
        with self._file.open("rb") as stream:
            stream.seek(self._at)
            for line in stream:
                if not line.endswith(b"\n"):
                    return
                self._at += len(line)
                yield json.loads(line)

    def going_on(self) -> TextIO:
        """Open the file to append lines after the last whole one that was read; line-buffered."""
        with self._file.open("ab") as stream:
            stream.truncate(self._at)
        return self._file.open("a", encoding="utf-8", buffering=1)


@dataclass
class DeviceRow:
    """State and losses of a device, from its own events."""

    state: str = "starting"
    base: float | None = None
    alone: float | None = None
    now: float | None = None
    cluster: int | None = None
    done: bool = False

    def take(self, event: Mapping[str, Any]) -> None:
        match event["event"]:
            case "base":
                self.base = event["loss"]
            case "alone":
                self.alone = event["loss"]
            case "joining":
                self.state = "waiting for the others"
            case "round":
                self.state, self.now = f"round {event['round']}: {event['stage']}", event["loss"]
                self.cluster = event["cluster"] if event["cluster"] is not None else self.cluster
            case "step":
                self.state = f"{event['what']}: step {event['step']} of {event['steps']}"
            case "together":
                self.now, self.cluster = event["loss"], event["cluster"]
            case "drawing":
                self.state = f"drawing {event['done'] + 1} of {event['of']}"
            case "done":
                self.state, self.done = "done", True


@dataclass
class View:
    """Everything on the screen."""

    groups: Mapping[str, str]
    rows: dict[str, DeviceRow] = field(default_factory=dict)
    said: deque[str] = field(default_factory=lambda: deque(maxlen=6))
    traffic: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        self.rows = {device: DeviceRow() for device in self.groups}

    def take_coordinator(self, event: Mapping[str, Any]) -> None:
        self.traffic = event["bytes"]["up"], event["bytes"]["down"]
        match event["event"]:
            case "clusters":
                members: dict[int, list[str]] = {}
                for device, cluster in sorted(event["assignment"].items()):
                    members.setdefault(cluster, []).append(device.removeprefix("device-"))
                found = "  ".join(f"{cluster}: {' '.join(names)}" for cluster, names in sorted(members.items()))
                self.said.append(f"round {event['round']}: {len(members)} clusters   {found}")
            case "round_started":
                self.said.append(f"round {event['round']} of {event['rounds']} begins ({event['stage']})")
            case "round_closed":
                self.said.append(f"round {event['round']} closed with {event['updates']} updates")
            case "refused":
                self.said.append(f"refused: {event.get('code')} {event.get('reason', '')}")
            case "finished":
                self.said.append("the last round is closed; adapters go home")

    def __rich__(self) -> RenderableType:
        table = Table(expand=True, header_style="dim", box=None)
        for name in ("device", "hidden group", "cluster", "base", "alone", "together"):
            table.add_column(name, justify="left" if name in ("device", "hidden group") else "right")
        table.add_column("now", ratio=1)
        for device, row in self.rows.items():
            better = row.now is not None and row.alone is not None and row.now < row.alone
            table.add_row(
                device,
                self.groups[device],
                "" if row.cluster is None else str(row.cluster),
                _loss(row.base),
                _loss(row.alone),
                Text(_loss(row.now), style="green" if better else ""),
                Text(row.state, style="dim" if row.done else ""),
            )
        up, down = (traffic / 2**20 for traffic in self.traffic)
        said = Text("\n".join(self.said) or "waiting for devices")
        return Group(
            Panel(table, title="devices (held-out loss: the smaller, the better)", border_style="dim"),
            Panel(said, title=f"coordinator   {up:.1f} MiB up, {down:.1f} MiB down", border_style="dim"),
        )


def _loss(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
