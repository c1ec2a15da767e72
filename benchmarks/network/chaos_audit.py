"""Audit after benchmarks.chaos: the devices' logs and journals, compared with the coordinator's log and database."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from edge_sdk.wire import Offer

Event: TypeAlias = Mapping[str, Any]
# Events that a coordinator reports when rounds go on.
_STEPS = frozenset({"update_counted", "clusters", "round_started", "round_closed", "adapter_delivered", "finished"})


@dataclass(frozen=True)
class Counted:
    """A row of the coordinator's table of updates."""

    round: int
    device: str
    sha256: str


@dataclass(frozen=True)
class Committed:
    """An update that a device's journal holds as committed."""

    round: int
    sha256: str


@dataclass(frozen=True)
class Audit:
    """Faults found, in words; empty lists if there are none.

    Attributes:
        committed: number of updates that the coordinator counts.
        rounds: number of the last round closed.
        lost: updates that a device was told, or has in its journal, are committed, but that do not count, or another
            one does in their place; and the reverse.
        double: updates that count more than once.
        stuck: devices that have not come to the end, and rounds that are missing.
        twice: training that was finished and done again for the same round.
        backwards: rounds closed out of order.
    """

    committed: int
    rounds: int
    lost: list[str]
    double: list[str]
    stuck: list[str]
    twice: list[str]
    backwards: list[str]


def read_log(path: Path) -> list[Event]:
    """All whole lines. A kill -9 may have cut one off: the next process's first line follows it without a break."""
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return [json.loads(line[max(0, line.rfind('{"event"')) :]) for line in lines if line.endswith("}")]


def read_committed(journal: Path) -> list[Committed]:
    """Updates that a device's journal holds as committed; none if there is no journal."""
    if not journal.exists():
        return []
    query = "SELECT round, offer FROM work WHERE progress = 'committed' ORDER BY number"
    with closing(sqlite3.connect(f"{journal.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        rows = connection.execute(query).fetchall()
    return [Committed(number, msgspec.msgpack.decode(offer, type=Offer).manifest.sha256) for number, offer in rows]


def read_counted(database: Path) -> list[Counted]:
    """The updates that count, by round and device."""
    with sqlite3.connect(database) as connection:
        found = connection.execute("SELECT round, device, sha256 FROM updates ORDER BY round, device").fetchall()
    connection.close()
    return [Counted(*row) for row in found]


def audit(
    counted: Sequence[Counted],
    coordinator: Sequence[Event],
    devices: Mapping[str, Sequence[Event]],
    journals: Mapping[str, Sequence[Committed]],
    rounds: int,
) -> Audit:
    """Compare database, logs and journals. `rounds`: number of rounds that were to be closed."""
    lost, double, stuck, twice = [], [], [], []
    rows = {(row.round, row.device): row.sha256 for row in counted}
    double += [f"{sha[:12]} counts {n} times" for sha, n in Counter(row.sha256 for row in counted).items() if n > 1]
    of_devices = {(row.device, row.sha256) for row in counted}
    lost += [
        f"round {kept.round}: {name} holds {kept.sha256[:12]} as committed, and it does not count"
        for name, journal in journals.items()
        for kept in journal
        if (name, kept.sha256) not in of_devices
    ]
    told = Counter((e["round"], e["device"]) for e in coordinator if e["event"] == "update_counted")
    double += [f"round {number}: {device} counted {n} times" for (number, device), n in told.items() if n > 1]
    for name, events in devices.items():
        made: dict[int, list[str]] = {}
        finished_training: Counter[int] = Counter()
        for event in events:
            match event["event"]:
                case "made":
                    made.setdefault(event["round"], []).append(event["sha256"])
                case "trained":
                    finished_training[event["round"]] += 1
                case "update_committed" if rows.get((event["round"], name)) not in made.get(event["round"], []):
                    lost.append(f"round {event['round']}: {name} was told committed")
                case "round_done" if not event["accepted"] and (event["round"], name) in rows:
                    lost.append(f"round {event['round']}: {name} counts, and was told that it does not")
        twice += [f"round {number}: {name} trained {n} times" for number, n in finished_training.items() if n > 1]
        if not any(event["event"] == "done" for event in events):
            stuck.append(name)
    closed = [event["round"] for event in coordinator if event["event"] == "round_closed"]
    for event in coordinator:
        if event["event"] == "round_closed":
            inside = sum(row.round == event["round"] for row in counted)
            if inside != event["updates"]:
                lost.append(f"round {event['round']}: {inside} updates committed, {event['updates']} aggregated")
    reached = max(closed, default=0)
    if reached < rounds:
        stuck.append(f"the rounds: {reached} of {rounds}")
    backwards = [f"round {b} after round {a}" for a, b in itertools.pairwise(closed) if b <= a]
    return Audit(len(counted), reached, lost, double, stuck, twice, backwards)


def resumed_after(kills: Iterable[float], all_kills: Iterable[float], coordinator: Sequence[Event]) -> list[float]:
    """Seconds from each kill to the next step of a round that the coordinator reports.

    An upper bound: perhaps no step was due. A kill is left out if another one of `all_kills` came before that step
    (the other one counts), and if no step was left to do.
    """
    all_kills = sorted(all_kills)
    steps = sorted(event["time"] for event in coordinator if event["event"] in _STEPS)
    found = []
    for kill in kills:
        following = next((step for step in steps if step > kill), None)
        if following is not None and not any(kill < other < following for other in all_kills):
            found.append(following - kill)
    return found
