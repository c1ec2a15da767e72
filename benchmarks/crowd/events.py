"""Cost of one event to a coordinator, from a hundred to ten thousand devices.

All devices are in the open round, and every second one has delivered. `step_us` is the round machine alone; `saved_ms`
is the event fed to the coordinator's runner, which saves it to a database on disk, synced, and lets its actions out.
The kinds of events take turns, so that what else the machine does meanwhile touches all of them alike; each figure is
the median.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator

import sqlalchemy as sa

from benchmarks.shared.harness import Row
from coordinator import rounds
from coordinator.runner import Runner
from coordinator.store import Database
from edge_sdk.wire import DeviceProfile, Offer, Presence, make_manifest

EVENTS = ("joined", "heard", "offline", "online", "offered", "stored", "tick")
_BASE_ID = "0" * 64
_CODE = bytes(4 * 192)


def events(devices: int, repetitions: int) -> list[Row]:
    """One row for each kind of event."""
    rules = rounds.Rules(
        base_id=_BASE_ID,
        min_devices=devices,
        rounds=2,
        root_rounds=0,
        quorum=1.0,
        deadline=3600.0,
        grace=60.0,
        extensions=0,
        rank=8,
        min_rank=1,
        steps=1,
        batch_size=1,
        learning_rate=1e-3,
        seed=0,
        max_update=1 << 20,
        privacy="plain",
    )
    names = [f"d{number:06}" for number in range(devices)]
    steps: dict[str, list[float]] = {name: [] for name in EVENTS}
    saves: dict[str, list[float]] = {name: [] for name in EVENTS}
    with tempfile.TemporaryDirectory() as home:
        url = str(sa.URL.create("sqlite", database=f"{home}/coordinator.sqlite"))
        database = Database(url, "crowd", _BASE_ID)
        runner = Runner(rules, database, lambda: (0, 0))
        for name in names:
            runner.feed(rounds.Joined(name, _profile(), Presence(online=True, epoch=1)))
        runner.settle(_clusters)
        for name in names[::2]:
            runner.feed(rounds.Stored(name, _offer(name), 1.0))
        runner.settle(_clusters)
        for name in names[1 : 2 * repetitions : 2]:
            for kind, event in _day(name):
                began = time.perf_counter()
                rounds.step(rules, runner.state, event, time.monotonic())
                stepped = time.perf_counter()
                runner.feed(event)
                runner.settle(_clusters)
                runner.next_wake()
                saves[kind].append(time.perf_counter() - stepped)
                steps[kind].append(stepped - began)
        database.close()
    return [
        {
            "part": "event",
            "devices": devices,
            "event": kind,
            "step_us": 1e6 * statistics.median(steps[kind]),
            "saved_ms": 1e3 * statistics.median(saves[kind]),
        }
        for kind in EVENTS
    ]


def _day(name: str) -> Iterator[tuple[str, rounds.Event]]:
    """Yield one event of each kind of a device that has not delivered yet."""
    yield "joined", rounds.Joined(name, _profile(), Presence(online=True, epoch=2))
    yield "offline", rounds.Seen(name, False, 2)
    yield "heard", rounds.Heard(name)
    yield "online", rounds.Seen(name, True, 3)
    yield "offered", rounds.Offered(name, _offer(name))
    yield "stored", rounds.Stored(name, _offer(name), 1.0)
    yield "tick", rounds.Tick()


def _clusters(action: rounds.Action) -> rounds.Event | None:
    return rounds.Clustered(dict.fromkeys(action.devices, 0)) if isinstance(action, rounds.Cluster) else None


def _profile() -> DeviceProfile:
    return DeviceProfile(base_id=_BASE_ID, prompt_code=_CODE, pictures=1, max_rank=8)


def _offer(name: str) -> Offer:
    manifest = make_manifest(name.encode(), role="update", name="update")
    return Offer(round=1, attempt=1, manifest=manifest, pictures=1, first_loss=1.0, last_loss=0.5, train_seconds=1.0)
