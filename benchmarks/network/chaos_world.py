"""The processes of benchmarks.chaos: a broker, a coordinator, devices; all of them can be killed and come back.

Mosquitto runs with samples/broker as it is (TLS, certificates, access rules), on a free loopback port. Devices reach
it through one fault proxy, the coordinator through another.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from benchmarks.network.chaos_device import BASE_ID, RANK, SLOTS
from samples.broker import certificates
from tests.faults.proxy import Proxy
from tests.transport.brokers import MOSQUITTO_PATH, free_port, wait_until_listening

FEDERATION = "chaos"
_TOML = """
name = "{name}"
broker = "mqtts://127.0.0.1:{port}"
ca = "{keys}/ca.pem"
certificate = "{keys}/coordinator.pem"
key = "{keys}/coordinator.key"
slots = "impasto.json"
privacy = "plain"
allow_plain = true
min_devices = {devices}
rounds = {rounds}
root_rounds = 2
rank = {rank}
quorum = 0.8
deadline = 30.0
grace = 10.0
"""
_SAMPLE = Path(certificates.__file__).parent
# Seconds, on the devices' lines: a line that swallows everything is noticed after 1.5 times as long.
_KEEPALIVE = 5
_END = 20.0


class World:
    """All processes, in a folder of their own; a context manager.

    Attributes:
        events: the coordinator's log. database: its SQLite file.
        devices_line, coordinator_line: the proxies.
    """

    def __init__(self, folder: Path, devices: int, rounds: int, seed: int, training: float) -> None:
        self.folder = folder
        self.names = [f"device-{number}" for number in range(devices)]
        self.events = folder / "events.jsonl"
        self.database = folder / f"{FEDERATION}.coordinator" / "coordinator.sqlite"
        self._rounds, self._seed, self._training = rounds, seed, training
        self._stack = ExitStack()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> World:
        self._prepare_broker()
        self.start_broker()
        self.devices_line = self._stack.enter_context(Proxy(self.port, seed=self._seed))
        self.coordinator_line = self._stack.enter_context(Proxy(self.port, seed=self._seed + 1))
        self._prepare_coordinator()
        self.start("coordinator")
        for number, name in enumerate(self.names):
            self._prepare_device(number, name)
            self.start(name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait(_END)
        self._stack.close()

    def start(self, name: str) -> None:
        """Start the coordinator or a device."""
        if name == "coordinator":
            command = ["-m", "coordinator.cli", "serve", f"{FEDERATION}.toml", "--once", "--events", str(self.events)]
        else:
            command = ["-m", "benchmarks.network.chaos_device", str(self.folder / name / "settings.json")]
        # One thread each: there are many more processes than cores.
        environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, *command], cwd=self.folder, stdout=log, stderr=log, env=environment
            )

    def kill(self, name: str) -> bool:
        """kill -9 and wait for the end; False if it had ended before."""
        process = self._processes[name]
        if process.poll() is not None:
            return False
        process.send_signal(signal.SIGKILL)
        process.wait(_END)
        return True

    def start_broker(self) -> None:
        """Start the broker on the same port, without its earlier sessions and retained messages."""
        (self._broker / "mosquitto.db").unlink(missing_ok=True)
        executable = shutil.which("mosquitto", path=MOSQUITTO_PATH)
        if executable is None:
            raise RuntimeError("Mosquitto is not installed: apt-get install mosquitto, or brew install mosquitto.")
        with (self.folder / "broker.log").open("ab") as log:
            process = subprocess.Popen([executable, "-c", "mosquitto.conf"], cwd=self._broker, stdout=log, stderr=log)
        self._processes["broker"] = process
        wait_until_listening(self.port, process)

    def running(self, name: str) -> bool:
        return self._processes[name].poll() is None

    def ended_badly(self) -> list[str]:
        """Processes that have ended by themselves with an error; there should never be any."""
        return [name for name, process in self._processes.items() if process.poll() not in (None, 0)]

    def finished(self) -> bool:
        """True if the coordinator and every device have come to their end."""
        return not any(self.running(name) for name in ("coordinator", *self.names))

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds`; True as soon as the coordinator and all devices have finished."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.finished():
                return True
            time.sleep(0.05)
        return self.finished()

    def _prepare_broker(self) -> None:
        self._broker, self.port = self.folder / "broker", free_port()
        shutil.copytree(_SAMPLE, self._broker, ignore=shutil.ignore_patterns("certificates", "*.db"))
        self._keys = self._broker / "certificates"
        certificates.make(self._keys, self.names, ["localhost", "127.0.0.1"], 2)
        settings = self._broker / "mosquitto.conf"
        # Loopback only. Started by root, Mosquitto would change user and could not read root's files.
        listener = f"listener {self.port} 127.0.0.1\nuser root\n"
        settings.write_text(settings.read_text("utf-8").replace("listener 8883\n", listener), "utf-8")

    def _prepare_coordinator(self) -> None:
        slots = [
            {"name": name, "in_features": shape.in_features, "out_features": shape.out_features}
            for name, shape in SLOTS.items()
        ]
        (self.folder / "impasto.json").write_text(json.dumps({"base_id": BASE_ID, "slots": slots}), "utf-8")
        text = _TOML.format(
            name=FEDERATION,
            port=self.coordinator_line.port,
            keys=self._keys,
            devices=len(self.names),
            rounds=self._rounds,
            rank=RANK,
        )
        (self.folder / f"{FEDERATION}.toml").write_text(text, "utf-8")

    def _prepare_device(self, number: int, name: str) -> None:
        folder = self.folder / name
        folder.mkdir()
        settings = {
            "number": number,
            "name": name,
            "folder": str(folder),
            "federation": FEDERATION,
            "url": f"mqtts://127.0.0.1:{self.devices_line.port}",
            "keepalive": _KEEPALIVE,
            "seconds": self._training,
            "ca": str(self._keys / "ca.pem"),
            "certificate": str(self._keys / f"{name}.pem"),
            "key": str(self._keys / f"{name}.key"),
        }
        (folder / "settings.json").write_text(json.dumps(settings), "utf-8")
