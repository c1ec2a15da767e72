"""Devices, coordinator and broker killed again and again while a federation runs; then an audit of their records.

    python -m benchmarks.chaos [--quick] [--minutes M] [--seed N] [--json FILE]

20 devices, each a process that embeds `edge_sdk.membership`, a coordinator (`impasto-coordinator serve`) and Mosquitto
over TLS with samples/broker as it is. Training is replaced by a deterministic trainer: the test is of everything
around it. A strike comes every one to three seconds, drawn from the seed: kill -9 of a device, of the coordinator, or
of the broker with all its sessions; or a fault of the proxies on some of the lines. A killed process is started again
at once. There are no strikes in the last round. Then every device's log and journal are compared with the
coordinator's database.

Seconds to resume count from a kill to the first step of a round that the coordinator reports after it: by then the
killed process is up and connected, and a device's message has had an effect.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from rich.console import Console

from benchmarks.network.chaos_audit import Audit, audit, read_committed, read_counted, read_log, resumed_after
from benchmarks.network.chaos_world import World
from benchmarks.shared.harness import Arguments, Bar, Report, Row, check_outputs, value_of
from tests.faults.proxy import Fault, Kind

DEVICES, QUICK_DEVICES = 20, 4
ROUNDS_A_MINUTE = 4
LEAST_ROUNDS, QUICK_ROUNDS = 10, 3
TRAINING = 0.3  # seconds
PEACE = 240.0  # seconds to come to the end after the last strike
# Not "duplicate": it has no effect over TLS.
LINE_KINDS: tuple[Kind, ...] = ("cut", "reset", "latency", "bandwidth", "half-open", "blackhole")
# Not those that a coordinator notices by silence only, after 45 s.
COORDINATOR_KINDS: tuple[Kind, ...] = ("cut", "reset", "latency")
_console = Console()


@dataclass(frozen=True)
class Strike:
    """The next strike: seconds before it, its target (with a device's number, for "device"), or its fault."""

    pause: float
    what: str
    device: int = 0
    kind: Kind = "cut"
    after: int = 0


def draw(random: Random, devices: int) -> Strike:
    """The next strike."""
    what = random.choices(
        ["device", "coordinator", "broker", "devices' lines", "coordinator's line"], [45, 14, 11, 22, 8]
    )[0]
    kinds = COORDINATOR_KINDS if what == "coordinator's line" else LINE_KINDS
    return Strike(
        random.uniform(1.0, 3.0), what, random.randrange(devices), random.choice(kinds), random.randrange(200_000)
    )


def main(given: Sequence[str] | None = None) -> None:
    """Run, audit, report."""
    chosen, minutes = _arguments(given)
    report = Report(chosen, seeds=[chosen.seed])
    report.rows += run(chosen, minutes)
    report.bars += bars(report.rows)
    report.finish()


def bars(rows: Sequence[Row]) -> list[Bar]:
    """Nothing lost, double or stuck; enough rounds; and back within five seconds."""
    found = next(row for row in rows if row["part"] == "audit")
    bars = [Bar(name, value_of(found, name), 0.0) for name in ("lost", "double", "stuck", "trained twice", "backwards")]
    bars.append(Bar("processes that ended with an error", value_of(found, "ended badly"), 0.0))
    least = LEAST_ROUNDS if found["devices"] == DEVICES else QUICK_ROUNDS
    bars.append(Bar("rounds", value_of(found, "rounds"), float(least), "at least"))
    resumed = [row for row in rows if row["part"] == "resume" and row["kills"]]
    return bars + [
        Bar(f"seconds to resume after a kill of the {row['who']}, {which}", value_of(row, f"{which}_s"), 5.0)
        for row in resumed
        for which in ("median", "worst")
    ]


def run(chosen: Arguments, minutes: float) -> list[Row]:
    """The rows of one run."""
    devices = QUICK_DEVICES if chosen.quick else DEVICES
    rounds = QUICK_ROUNDS if chosen.quick else max(LEAST_ROUNDS, round(ROUNDS_A_MINUTE * minutes))
    folder = Path(tempfile.mkdtemp(prefix="impasto-chaos-"))
    began = time.monotonic()
    with World(folder, devices, rounds, chosen.seed, TRAINING) as world:
        moments, lines = _strike(world, Random(chosen.seed), rounds, began + 60 * minutes)
        world.wait(PEACE)
        ended_badly = world.ended_badly()
    coordinator = read_log(world.events)
    logs = {name: read_log(folder / name / "events.jsonl") for name in world.names}
    journals = {name: read_committed(folder / name / "home" / "journal.sqlite") for name in world.names}
    found = audit(read_counted(world.database), coordinator, logs, journals, rounds)
    rows = _rows(found, moments, lines, [*_resumes(moments, coordinator)], devices, time.monotonic() - began)
    rows[0] = {**rows[0], "ended badly": len(ended_badly)}
    wrong = [problem for value in asdict(found).values() if isinstance(value, list) for problem in value]
    for problem in [*wrong, *(f"{name} ended with an error" for name in ended_badly)]:
        _console.print(f"[red]{problem}[/]", highlight=False)
    if wrong or ended_badly:
        _console.print(f"What is left of this run lies in {folder}.", highlight=False)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return rows


def _strike(world: World, random: Random, rounds: int, until: float) -> tuple[dict[str, list[float]], Counter[Kind]]:
    """Strike until the last round is under way; target -> times of its kills, and the number of faults by kind."""
    moments: dict[str, list[float]] = {"device": [], "coordinator": [], "broker": []}
    while time.monotonic() < until and _closed(world) < rounds - 1:
        strike = draw(random, len(world.names))
        if world.wait(strike.pause):
            break
        match strike.what:
            case "broker":
                moment = time.time()
                world.kill("broker")
                world.start_broker()
                moments["broker"].append(moment)
            case "devices' lines":
                world.devices_line.inject(Fault(strike.kind, after=strike.after), most=3)
            case "coordinator's line":
                world.coordinator_line.inject(Fault(strike.kind, after=strike.after))
            case kind:
                name = world.names[strike.device] if kind == "device" else "coordinator"
                moment = time.time()
                if world.kill(name):
                    world.start(name)
                    moments[kind].append(moment)
    return moments, world.devices_line.struck + world.coordinator_line.struck


def _closed(world: World) -> int:
    """The last round that the coordinator reported as closed."""
    return max((e["round"] for e in read_log(world.events) if e["event"] == "round_closed"), default=0)


def _resumes(moments: dict[str, list[float]], coordinator: Sequence[dict[str, object]]) -> list[Row]:
    found: list[Row] = []
    for who in ("coordinator", "broker"):
        seconds = resumed_after(moments[who], moments["coordinator"] + moments["broker"], coordinator)
        found.append(
            {
                "part": "resume",
                "who": who,
                "kills": len(seconds),
                "median_s": statistics.median(seconds) if seconds else None,
                "worst_s": max(seconds, default=None),
            }
        )
    return found


def _rows(
    found: Audit,
    moments: dict[str, list[float]],
    lines: Counter[Kind],
    resumes: list[Row],
    devices: int,
    seconds: float,
) -> list[Row]:
    audited: Row = {
        "part": "audit",
        "devices": devices,
        "rounds": found.rounds,
        "seconds": seconds,
        "faults": sum(map(len, moments.values())) + lines.total(),
        "committed": found.committed,
        "lost": len(found.lost),
        "double": len(found.double),
        "stuck": len(found.stuck),
        "trained twice": len(found.twice),
        "backwards": len(found.backwards),
    }
    kills: list[Row] = [
        {"part": "faults", "fault": f"kill -9 of {who}", "times": len(times)}
        for who, times in (
            ("a device", moments["device"]),
            ("the coordinator", moments["coordinator"]),
            ("the broker", moments["broker"]),
        )
    ]
    faults: list[Row] = [
        {"part": "faults", "fault": f"line: {kind}", "times": times} for kind, times in sorted(lines.items())
    ]
    return [audited, *kills, *faults, *resumes]


def _arguments(given: Sequence[str] | None) -> tuple[Arguments, float]:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="four devices and three rounds, for CI")
    parser.add_argument(
        "--minutes", type=float, default=4.0, help=f"how long at most; {ROUNDS_A_MINUTE} rounds for each, at least 10"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    found = parser.parse_args(given)
    check_outputs(parser, found.json)
    return Arguments(found.quick, found.seed, found.json), found.minutes


if __name__ == "__main__":
    main()
