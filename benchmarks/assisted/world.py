"""A federation with one device that has learnt, a helper of it as a process, and the bytes between the two."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from benchmarks.network.world import environment
from coordinator import config
from coordinator.server import Service
from edge_sdk import adapter as adapters
from edge_sdk.adapter import Adapter, Factors
from edge_sdk.inference import Generator
from edge_sdk.membership import Membership, RoundPlan, TrainedUpdate
from edge_sdk.transport import Settings, create
from edge_sdk.wire import DeviceProfile, Topics, TrainingStats

NAME, DEVICE = "assisted", "pi-5"
_RANK = 8
_PATIENCE = 600.0
_GLANCE = 0.02
_FILE = """
name = "{name}"
broker = "{broker}"
bundle = "{bundle}"
privacy = "plain"
allow_plain = true
min_devices = 1
rounds = 2
root_rounds = 1
rank = {rank}

[clustering]
method = "single"
"""


def adapter(generator: Generator, seed: int) -> Adapter:
    """A random adapter of the attention layers: it costs what a learnt one costs."""
    rng = np.random.default_rng(seed)
    layers = {
        name: Factors(
            rng.standard_normal((_RANK, shape.in_features), np.float32) / np.float32(shape.in_features**0.5),
            np.float32(0.1 / _RANK**0.5) * rng.standard_normal((shape.out_features, _RANK), np.float32),
        )
        for name, shape in generator.slots.items()
        if "attn" in name and shape.kernel is None
    }
    return Adapter(layers, base_id=generator.base_id)


class Federation:
    """A federation whose rounds are over, and the home of its device, with root, cluster and leaf adapters.

    Args:
        folder: an empty one.
        broker: the broker's URL.
        generator: of the bundle.
    """

    def __init__(self, folder: Path, broker: str, generator: Generator) -> None:
        self.broker, self.topics, self.home = broker, Topics(NAME), folder / "home"
        self.file, self.folder = folder / f"{NAME}.toml", folder
        bundle = generator.bundle.folder.absolute()
        self.file.write_text(_FILE.format(name=NAME, broker=broker, bundle=bundle, rank=_RANK), "utf-8")
        self._learn(generator)
        adapters.save(adapter(generator, 9), self.home / "leaf.safetensors")

    @property
    def loaded(self) -> config.Federation:
        return config.load(self.file)

    def _learn(self, generator: Generator) -> None:
        service = Service(self.loaded)
        coordinating = threading.Thread(target=service.run, kwargs={"once": True}, daemon=True)
        coordinating.start()

        def train(plan: RoundPlan) -> TrainedUpdate:
            stats = TrainingStats(pictures=9, first_loss=1.0, last_loss=0.5, train_seconds=0.1)
            return TrainedUpdate(adapter(generator, plan.round), stats)

        code = generator.encode_prompt(["a red fox"])[1][0].astype("<f4").tobytes()
        profile = DeviceProfile(base_id=generator.base_id, prompt_code=code, pictures=9, max_rank=_RANK)
        with Membership(self.broker, NAME, DEVICE, profile, self.home, train) as membership:
            membership.run()
        coordinating.join(_PATIENCE)


class Helper:
    """`impasto-coordinator assist` as a process; a context manager.

    Args:
        federation: its federation.
        name: its name.
        core: the core that it is bound to.
    """

    def __init__(self, federation: Federation, name: str, core: int) -> None:
        self._file, self._name, self._core = federation.file, name, core
        self._events = federation.folder / f"{name}-{time.monotonic_ns()}.jsonl"

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Helper:
        options = ["--name", self._name, "--threads", "1", "--a-minute", "1000", "--events", str(self._events)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "coordinator.cli", "assist", str(self._file), *options],
            stdout=subprocess.DEVNULL,
            env=environment(),
        )
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(self.pid, {self._core})
        self.wait_for("helper_started")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.say(signal.SIGCONT)
        self.say(signal.SIGTERM)
        try:
            self._process.wait(30.0)
        except subprocess.TimeoutExpired:
            self.say(signal.SIGKILL)
            self._process.wait(30.0)

    def say(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self._process.poll() is None:
            self._process.send_signal(number)

    def wait_for(self, event: str, over: threading.Event | None = None) -> Mapping[str, Any]:
        """Its first event of that name.

        over: set once nobody waits for it any more.

        Raises:
            RuntimeError: it has ended, or the event does not come.
        """
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until and not (over is not None and over.is_set()):
            lines = self._events.read_text("utf-8").splitlines(keepends=True) if self._events.exists() else []
            for told in (json.loads(line) for line in lines if line.endswith("\n")):
                if told["event"] == event:
                    return dict(told)
            if self._process.poll() is not None:
                break
            time.sleep(_GLANCE)
        raise RuntimeError(f"The helper did not come to {event!r}.")


class Traffic:
    """Bytes of topics and payloads between devices and helpers; a context manager.

    Attributes:
        up, down: bytes to helpers, and from them.
    """

    def __init__(self, federation: Federation) -> None:
        self.up = self.down = 0
        self._transport = create(Settings(url=federation.broker))
        self._topics = f"impasto/1/{NAME}/assist/#"

    def __enter__(self) -> Traffic:
        self._transport.connect(30.0)
        self._transport.subscribe(self._topics, self._arrived)
        return self

    def __exit__(self, *error: object) -> None:
        self._transport.close()

    def _arrived(self, topic: str, payload: bytes) -> None:
        size = len(topic) + len(payload)
        if "/up/" in topic:
            self.up += size
        else:
            self.down += size
