"""Flower 1.42 for benchmarks.transport: SuperLink, SuperNodes and flower_app.

Its packages are in an environment of their own. SuperNodes reach the SuperLink through a proxy that counts bytes.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.network.world import peak_of
from benchmarks.shared.memory import Sampler
from tests.faults.proxy import Proxy
from tests.transport.brokers import free_port, wait_until_listening

PACKAGE = "flwr==1.42.0"
_APP = Path(__file__).parent / "flower_app"
_CONFIG = '[superlink]\ndefault = "local"\n[superlink.local]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
_END = 20.0


class Measured:
    """Costs of a run of Flower: seconds of every round, bytes between nodes and server, peaks of memory in bytes."""

    def __init__(self, rounds: list[float], wire: int, server: int, client: int) -> None:
        self.rounds, self.wire, self.server, self.client = rounds, wire, server, client


def install(environments: Path) -> Path:
    """Install Flower unless that was done before, and return the folder of its commands.

    Raises:
        subprocess.SubprocessError: it cannot be installed.
    """
    commands = environments / "flwr" / "bin"
    if not (commands / "flwr").exists():  # pip writes it last; an environment cannot be moved, as its scripts name it
        shutil.rmtree(commands.parent, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(commands.parent)], check=True, timeout=120)
        pip = [str(commands / "python"), "-m", "pip", "install", "--quiet", PACKAGE]
        subprocess.run(pip, check=True, timeout=600)
    return commands


def run(commands: Path, folder: Path, nodes: int, rounds: int, seconds: float) -> Measured:
    """One run with `nodes` SuperNodes.

    Raises:
        RuntimeError: it did not finish within `seconds`.
    """
    shutil.copytree(_APP, folder / "app")
    (folder / "home").mkdir()
    port = free_port()
    (folder / "home" / "config.toml").write_text(_CONFIG.format(port=port), "utf-8")
    environment = {
        **os.environ,
        "FLWR_HOME": str(folder / "home"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "PATH": f"{commands}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    processes: list[subprocess.Popen[bytes]] = []

    def start(name: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (folder / f"{name}-{len(processes)}.log").open("wb") as log:
            # A session of its own, so that all processes that it starts end with it.
            process = subprocess.Popen(
                [str(commands / name), *arguments],
                stdout=log,
                stderr=log,
                env=environment,
                cwd=folder,
                start_new_session=True,
            )
        processes.append(process)
        return process

    try:
        link = start("flower-superlink", "--insecure", "--port", str(port), "--disable-runtime-dependency-installation")
        wait_until_listening(port, link)
        with Proxy(port) as proxy, _Peaks(processes) as peaks:
            for _ in range(nodes):
                start(
                    "flower-supernode",
                    "--insecure",
                    "--superlink",
                    f"127.0.0.1:{proxy.port}",
                    "--port",
                    str(free_port()),
                )
            start("flwr", "run", "app", "local", "--stream")
            times = _wait(folder, f"flwr-{len(processes) - 1}.log", rounds, seconds)
        return Measured(
            [later - earlier for earlier, later in itertools.pairwise(times)],
            proxy.passed.total(),
            peaks.server,
            peaks.client,
        )
    finally:
        for process in processes:
            _end(process)


def _wait(folder: Path, log: str, rounds: int, seconds: float) -> list[float]:
    """Times at which the run started and each round was done."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = [json.loads(text) for text in re.findall(r"IMPASTO (\{.*\})", (folder / log).read_text("utf-8"))]
        if found and found[-1]["round"] == rounds:
            return [told["time"] for told in found]
        time.sleep(0.1)
    raise RuntimeError(f"Flower did not finish {rounds} rounds in {seconds:g} s; its logs lie in {folder}.")


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(_END)


class _Peaks(Sampler):
    """Peaks of memory, in bytes, of the process trees of the SuperLink and the SuperNodes, read twice a second.

    server: the sum over the SuperLink and its child processes. client: the largest such sum of a SuperNode.
    """

    def __init__(self, processes: list[subprocess.Popen[bytes]]) -> None:
        super().__init__(0.5)
        self.server = self.client = 0
        self._processes = processes  # those to come are added to this list

    def sample(self) -> None:
        parents = _parents()
        for number, process in enumerate(list(self._processes)):
            total = sum(peak_of(member) for member in _tree(process.pid, parents))
            if number == 0:
                self.server = max(self.server, total)
            else:
                self.client = max(self.client, total)


def _tree(root: int, parents: Mapping[int, int]) -> set[int]:
    """A process and all its descendants."""
    found, new = {root}, {root}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found


def _parents() -> dict[int, int]:
    """Process id -> its parent's, of all processes."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            found[int(path.parent.name)] = int(path.read_text("utf-8").rpartition(")")[2].split()[1])
    return found
