"""The processes of benchmarks.transport: Mosquitto, the real coordinator, and workers that report events."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

from benchmarks.network.content import BASE_ID, RANK, SLOTS
from tests.transport.brokers import Mosquitto

Told: TypeAlias = dict[str, Any]
_END = 30.0
_TOML = """
name = "{name}"
broker = "{url}"
slots = "impasto.json"
privacy = "plain"
allow_plain = true
min_devices = {devices}
rounds = {rounds}
root_rounds = {rounds}
{more}quorum = 1.0
rank = {rank}

[clustering]
method = "single"

[interaction]
method = "none"
"""


class Workers:
    """Processes that read lines and answer with JSON lines; `close` ends all of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._told: queue.Queue[Told] = queue.Queue()
        self._processes: list[subprocess.Popen[str]] = []
        self._threads: list[threading.Thread] = []
        self._kept: list[Told] = []

    def start(self, module: str, settings: Mapping[str, Any]) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        thread = threading.Thread(target=self._read, args=(process,), daemon=True)
        self._processes.append(process)
        self._threads.append(thread)
        thread.start()

    def say(self, line: str = "go") -> float:
        """Send a line to all of them and return the time."""
        moment = time.time()
        for process in self._processes:
            assert process.stdin is not None
            if process.poll() is None:
                process.stdin.write(line + "\n")
                process.stdin.flush()
        return moment

    def wait_for(self, event: str, count: int, seconds: float = 240.0) -> list[Told]:
        """The next `count` events of that name; others are kept for later.

        Raises:
            RuntimeError: they did not come in time.
        """
        found = [told for told in self._kept if told["event"] == event][:count]
        self._kept = [told for told in self._kept if told not in found]
        until = time.monotonic() + seconds
        while len(found) < count:
            try:
                told = self._told.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty as error:
                raise RuntimeError(f"Only {len(found)} of {count} {event!r} within {seconds:g} s.") from error
            (found if told["event"] == event else self._kept).append(told)
        return found

    def close(self) -> None:
        for process in self._processes:
            process.kill()
        for process, thread in zip(self._processes, self._threads, strict=True):
            process.wait(_END)
            thread.join(_END)
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._told.put(json.loads(line))


class Coordinator:
    """`impasto-coordinator serve` of a federation; a context manager.

    Args:
        more: further lines of the federation file.
    """

    def __init__(self, folder: Path, url: str, name: str, devices: int, rounds: int, more: str = "") -> None:
        slots = [
            {"name": name, "in_features": shape.in_features, "out_features": shape.out_features}
            for name, shape in SLOTS.items()
        ]
        (folder / "impasto.json").write_text(json.dumps({"base_id": BASE_ID, "slots": slots}), "utf-8")
        text = _TOML.format(name=name, url=url, devices=devices, rounds=rounds, rank=RANK, more=more)
        self._path = folder / f"{name}.toml"
        self._path.write_text(text, "utf-8")
        self._events = folder / f"{name}.jsonl"
        self.peak = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Coordinator:
        command = ["-m", "coordinator.cli", "serve", str(self._path), "--events", str(self._events)]
        self._process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, env=environment())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.peak = peak_of(self._process.pid)
        self._process.terminate()
        try:
            self._process.wait(_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_END)

    def events(self, name: str) -> list[Told]:
        lines = self._events.read_text("utf-8").splitlines() if self._events.exists() else []
        return [event for event in map(json.loads, lines) if event["event"] == name]


class Place:
    """A folder, a broker in it and workers; a context manager."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        # The broker drops nothing: with short queues, losing messages would look like speed.
        self.broker = Mosquitto(folder, "max_queued_messages 0", "max_inflight_messages 64", "set_tcp_nodelay true")
        self.workers = Workers(folder)
        self._stack = ExitStack()

    def __enter__(self) -> Place:
        self._stack.enter_context(self.broker)
        self._stack.callback(lambda: self.workers.close())
        return self

    def renew_workers(self) -> Workers:
        """End all workers and return an empty set for new ones."""
        self.workers.close()
        self.workers = Workers(self.folder)
        return self.workers

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def environment() -> dict[str, str]:
    """Environment variables that give each process one thread: there are more processes than cores."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def peak_of(*processes: int) -> int:
    """Peak of memory of a process in bytes; the largest of several."""
    return max((_peak(process) for process in processes), default=0)


def _peak(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text("utf-8").splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def split(count: int, processes: int) -> Sequence[tuple[int, int]]:
    """(first number, count) of the items of each of `processes` processes."""
    size = -(-count // processes)
    return [(first, min(size, count - first)) for first in range(0, count, size)]
