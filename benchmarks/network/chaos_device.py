"""A device of benchmarks.chaos, in a process of its own: python -m benchmarks.network.chaos_device SETTINGS.json

An app that embeds `edge_sdk.membership.Membership` and joins again whenever a session ends with an error. Training is
replaced by a deterministic trainer: the same plan gives the same bytes. Events of `on_event` and finished trainings go
into a log of its own, one synced JSON line each, which survives every kill -9.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.adapter import Adapter, Factors, Shape, beginning
from edge_sdk.errors import ImpastoError
from edge_sdk.membership import Membership, RoundPlan, TrainedUpdate, pack_update
from edge_sdk.transport import Settings, Tls
from edge_sdk.wire import DeviceProfile, TrainingStats

# The form of every update: about 660 kB at rank 8, six chunks.
LAYERS, WIDTH, RANK = 16, 640, 8
SLOTS: Mapping[str, Shape] = {f"unet.block.{n}.attn.to_q": Shape(WIDTH, WIDTH) for n in range(LAYERS)}
BASE_ID = "c" * 64
GROUPS = 2
SILENCE = 60.0  # seconds without a step after which a session ends, and the next one begins


class Log:
    """Lines that are on disk when `write` returns."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, event: Mapping[str, Any]) -> None:
        os.write(self._file, json.dumps(event).encode() + b"\n")
        os.fsync(self._file)


def trained(plan: RoundPlan, number: int) -> TrainedUpdate:
    """The start, moved towards the device's group and a little in a direction of its own."""
    start = beginning(plan.start, SLOTS, plan.rank, plan.seed, plan.share)
    group, own = np.random.default_rng([number % GROUPS]), np.random.default_rng([number, plan.round])
    layers = {
        name: Factors(
            f.a + 0.01 * own.standard_normal(f.a.shape, np.float32),
            f.b
            + 0.1 * group.standard_normal(f.b.shape, np.float32)
            + 0.01 * own.standard_normal(f.b.shape, np.float32),
        )
        for name, f in start.layers.items()
    }
    stats = TrainingStats(pictures=10 + number, first_loss=1.0, last_loss=1.0 / (1 + plan.round), train_seconds=0.1)
    return TrainedUpdate(Adapter(layers, BASE_ID), stats)


def profile(number: int) -> DeviceProfile:
    """A device's profile; prompt codes of one group are alike."""
    group, own = np.random.default_rng(number % GROUPS), np.random.default_rng(100 + number)
    code = (5.0 + group.normal(size=16) + 0.1 * own.normal(size=16)).astype("<f4").tobytes()
    return DeviceProfile(base_id=BASE_ID, prompt_code=code, pictures=10 + number, max_rank=RANK)


def main() -> None:
    """Take part until the federation has finished, across failed sessions; exit code 0 then."""
    given = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    number, name, folder = given["number"], given["name"], Path(given["folder"])
    log = Log(folder / "events.jsonl")
    tls = Tls(given["ca"], given["certificate"], given["key"])
    settings = Settings(url=given["url"], keepalive=given["keepalive"], tls=tls)

    def train(plan: RoundPlan) -> TrainedUpdate:
        log.write({"event": "training", "time": time.time(), "round": plan.round})
        time.sleep(given["seconds"])
        update = trained(plan, number)
        sha256 = hashlib.sha256(pack_update(plan, update, BASE_ID)).hexdigest()
        log.write({"event": "made", "time": time.time(), "round": plan.round, "sha256": sha256})
        return update

    while True:
        log.write({"event": "session", "time": time.time()})
        try:
            with Membership(
                settings, given["federation"], name, profile(number), folder / "home", train, on_event=log.write
            ) as membership:
                if membership.run(deadline=SILENCE, answer=30.0).finished:
                    log.write({"event": "done", "time": time.time()})
                    return
        except ImpastoError as error:
            log.write(
                {"event": "session_failed", "time": time.time(), "code": type(error).__name__, "reason": str(error)}
            )


if __name__ == "__main__":
    main()
