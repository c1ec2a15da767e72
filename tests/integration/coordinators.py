"""A coordinator in this process, its federation file, and devices of it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coordinator import config
from coordinator.server.service import Service
from edge_sdk.transport import Settings
from tests.coordinator.adapters import BASE_ID, SLOTS
from tests.integration.devices import FEDERATION, Device


def write_federation(folder: Path, broker: str, rounds: int = 3, more: str = "", devices: int = 6) -> Path:
    """A federation file whose first round begins with so many devices."""
    slots = [{"name": name, "in_features": i, "out_features": o} for name, (i, o, _) in SLOTS.items()]
    (folder / "impasto.json").write_text(json.dumps({"base_id": BASE_ID, "slots": slots}))
    path = folder / "tastes.toml"
    path.write_text(FEDERATION.format(broker=broker, rounds=rounds, devices=devices) + more)
    return path


_SERVE = (sys.executable, "-m", "coordinator.cli", "serve")


@contextmanager
def killed_when_it_says(federation: Path, said: str) -> Iterator[None]:
    """A coordinator in a process of its own, which SIGKILL ends after the block, as soon as it says this or is done."""
    with subprocess.Popen([*_SERVE, str(federation), "--once"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield
            for line in process.stdout:
                if said in line or "rounds done" in line:
                    break
        finally:
            process.kill()
            process.wait(10)


def serve_once(federation: Path) -> str:
    """A coordinator in a process of its own, until all rounds are done; what it says."""
    done = subprocess.run([*_SERVE, str(federation), "--once"], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


class Coordinator:
    """A coordinator in a thread of this process; `crash` takes it away without a goodbye."""

    def __init__(
        self,
        path: Path,
        *,
        once: bool = True,
        on_event: Callable[[dict[str, Any]], None] = lambda event: None,
        settings: Settings | None = None,
        on_turn: Callable[[], None] | None = None,
    ) -> None:
        self.events: list[dict[str, Any]] = []
        self._on_event = on_event
        self._on_turn = on_turn
        self.heard = threading.Condition()
        self.service = Service(config.load(path), settings=settings, on_event=self._note)
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(once,), daemon=True)
        self._thread.start()

    def _run(self, once: bool) -> None:
        try:
            self.service.run(once=once, on_turn=self._on_turn)
        except BaseException as error:
            self.error = error

    def _note(self, event: dict[str, Any]) -> None:
        with self.heard:
            self.events.append(event)
            self.heard.notify_all()
        self._on_event(event)

    def named(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == name]

    def wait_for(self, name: str, count: int = 1) -> None:
        with self.heard:
            assert self.heard.wait_for(lambda: len(self.named(name)) >= count, timeout=60), f"no {name}"

    def told(self, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first event that fits, as soon as it is told."""
        with self.heard:
            assert self.heard.wait_for(lambda: any(map(fits, self.events)), timeout=60), self.events
            return next(event for event in self.events if fits(event))

    def join(self, error: type[BaseException] | None = None) -> Coordinator:
        self._thread.join(60)
        assert not self._thread.is_alive(), f"the coordinator still runs: {self.events[-3:]}"
        assert isinstance(self.error, error or type(None)), self.error
        return self

    def stop(self) -> None:
        self.service.stop()
        self.join()


def devices(broker: str, folder: Path, numbers: range = range(6)) -> list[Device]:
    return [Device(number, broker, folder / f"device-{number}").start() for number in numbers]
