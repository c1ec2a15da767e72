"""Our path against raw paho and Flower, side by side, on this machine: time, bytes, memory.

    python -m benchmarks.transport [--quick] [--seed N] [--json FILE]

Adapters of Stable Diffusion 1.5 at rank 4, 3.2 MB each, through one Mosquitto on loopback, without TLS.

Fan-in: 50 devices (whole `Membership`s, ten in a process) have an update ready on disk and hand it in at once. The time
ends when the last one hears `committed`: offer, pulls, chunks, hash, checks, fsync, database. Raw paho: as many clients
in as many processes publish the same bytes at once, in chunks of the same size, QoS 1, to one subscriber, until it has
them all. Fan-out: from the start of a round until the last device has the round's adapter on disk; raw paho: one
publisher, a copy to each of as many subscribers. Repetitions take turns. Memory: the peak of the coordinator's process
with 50 and with 500 devices that one process plays. Flower: SuperLink, SuperNodes and FedAvg move arrays of the same
size; nothing is trained on either side; each device and each node is a process of its own, behind a proxy that counts
bytes.
"""

from __future__ import annotations

import itertools
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console

from benchmarks.network import flower as transport_flower
from benchmarks.network.content import CHUNK, content
from benchmarks.network.world import Coordinator, Place, peak_of, split
from benchmarks.shared.harness import KEPT, NOT_MEASURED, Bar, Report, Row, arguments, value_of
from tests.faults.proxy import Proxy

DEVICES, QUICK_DEVICES = 50, 6
CROWD, QUICK_CROWD = 500, 60
NODES, QUICK_NODES = (8, 4), (2,)  # numbers of SuperNodes to try; the first with which Flower finishes is used
PROCESSES = 5
REPETITIONS = 3
ROUNDS = 3  # in the comparison with Flower; the first, a warm-up, is reported apart
_FLOWER_DEADLINE = 900.0
_NAME = "transport"
_console = Console()


def main(given: Sequence[str] | None = None) -> None:
    """Measure and report."""
    assert __doc__ is not None
    chosen = arguments(__doc__.splitlines()[0], given)
    quick = chosen.quick
    report = Report(chosen, seeds=[chosen.seed])
    devices = QUICK_DEVICES if quick else DEVICES
    folder = Path(tempfile.mkdtemp(prefix="impasto-transport-"))
    try:
        report.rows += _fans(folder, devices, 1 if quick else REPETITIONS)
        report.rows += [_crowd(folder, count) for count in (devices, QUICK_CROWD if quick else CROWD)]
        report.rows += _against_flower(folder, QUICK_NODES if quick else NODES)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report.bars += bars(report.rows)
    report.finish()


def bars(rows: Sequence[Row]) -> list[Bar]:
    """Bars: at most 1.5 times raw paho's time, and memory that does not grow with the number of devices."""
    seconds = {(row["part"], row["row"]): value_of(row, "median_s") for row in rows if row["part"] == "fan-in"}
    peaks = [value_of(row, "coordinator_mb") for row in rows if row["part"] == "crowd"]
    return [
        Bar("fan-in: times raw paho", seconds["fan-in", "ours"] / seconds["fan-in", "raw paho"], 1.5),
        Bar("coordinator: memory with ten times the devices", peaks[-1] / peaks[0], 1.2),
    ]


# --- fan-in and fan-out ---------------------------------------------------------------------------------------------


def _fans(folder: Path, devices: int, repetitions: int) -> list[Row]:
    times: dict[tuple[str, str], list[float]] = {}
    for repetition in range(repetitions):
        for name, measure in (("raw paho", _raw), ("ours", _ours)):
            with Place(folder / f"{name}-{repetition}") as place:
                for part, seconds in measure(place, devices):
                    times.setdefault((part, name), []).append(seconds)
    size = len(content(0))
    return [
        {
            "part": part,
            "row": name,
            "devices": devices,
            "mb": devices * size / 1e6,
            "median_s": statistics.median(seconds),
            "best_s": min(seconds),
            "worst_s": max(seconds),
            "mb_a_second": devices * size / 1e6 / statistics.median(seconds),
        }
        for (part, name), seconds in sorted(times.items())
    ]


def _ours(place: Place, devices: int) -> Iterator[tuple[str, float]]:
    """Our fans: two rounds give two fans in and one fan out."""
    with Coordinator(place.folder, place.broker.url, _NAME, devices, rounds=2) as coordinator:
        _start_devices(place, place.broker.url, devices, PROCESSES, gate=True)
        for number in (1, 2):
            if number == 2:
                received = place.workers.wait_for("adapter_received", devices)
                begun = next(event for event in coordinator.events("round_started") if event["round"] == 2)
                yield "fan-out", max(event["time"] for event in received) - begun["time"]
            place.workers.wait_for("trained", devices)
            moment = place.workers.say()
            committed = place.workers.wait_for("update_committed", devices)
            yield "fan-in", max(event["time"] for event in committed) - moment
        place.workers.wait_for("ended", len(split(devices, PROCESSES)))


def _start_devices(place: Place, url: str, devices: int, processes: int, *, gate: bool) -> None:
    for first, count in split(devices, processes):
        settings = {"url": url, "federation": _NAME, "folder": str(place.folder), "gate": gate}
        place.workers.start("benchmarks.network.device", {**settings, "first": first, "count": count})


def _raw(place: Place, devices: int) -> Iterator[tuple[str, float]]:
    address = urlsplit(place.broker.url)
    size = len(content(0))
    shared = {"host": address.hostname, "port": address.port, "chunk": CHUNK, "size": size}
    groups = split(devices, PROCESSES)
    for first, count in groups:
        settings = {**shared, "do": "publish", "first": first, "count": count}
        place.workers.start("benchmarks.network.raw", settings)
    place.workers.start(
        "benchmarks.network.raw", {**shared, "do": "subscribe", "topics": ["raw/+"], "total": devices * size}
    )
    place.workers.wait_for("ready", len(groups) + 1)
    for _ in range(2):
        moment = place.workers.say()
        (told,) = place.workers.wait_for("received", 1)
        yield "fan-in", told["time"] - moment
    yield from _raw_out(place, shared, groups)


def _raw_out(place: Place, shared: dict[str, object], groups: Sequence[tuple[int, int]]) -> Iterator[tuple[str, float]]:
    workers = place.renew_workers()
    devices, size = sum(count for _, count in groups), shared["size"]
    for first, count in groups:
        topics = [f"raw/{number}" for number in range(first, first + count)]
        settings = {**shared, "do": "subscribe", "first": first, "topics": topics, "total": count * int(str(size))}
        workers.start("benchmarks.network.raw", settings)
    workers.start("benchmarks.network.raw", {**shared, "do": "publish", "first": 0, "count": devices, "clients": 1})
    workers.wait_for("ready", len(groups) + 1)
    moment = workers.say()
    yield "fan-out", max(told["time"] for told in workers.wait_for("received", len(groups))) - moment


# --- memory ---------------------------------------------------------------------------------------------------------


def _crowd(folder: Path, devices: int) -> Row:
    with Place(folder / f"crowd-{devices}") as place:
        with Coordinator(place.folder, place.broker.url, _NAME, devices, rounds=1) as coordinator:
            player = {"url": place.broker.url, "federation": _NAME, "count": devices}
            place.workers.start("benchmarks.network.player", player)
            place.workers.wait_for("ended", 1, seconds=1200.0)
            (closed,) = coordinator.events("round_closed")
        return {
            "part": "crowd",
            "devices": devices,
            "updates": closed["updates"],
            "coordinator_mb": coordinator.peak / 1e6,
        }


# --- Flower ---------------------------------------------------------------------------------------------------------


def _against_flower(folder: Path, numbers: Sequence[int]) -> list[Row]:
    """Rows of Flower, with the first number of nodes with which it finishes, and of ours with as many devices."""
    problem = ""
    try:
        commands = transport_flower.install(KEPT / "environments")
        for nodes in numbers:
            place = folder / f"flower-{nodes}"
            place.mkdir()
            try:
                found = transport_flower.run(commands, place, nodes, ROUNDS, _FLOWER_DEADLINE)
            except RuntimeError as error:
                problem = str(error)
                _console.print(f"{nodes} SuperNodes: {error}", highlight=False)
                continue
            flower = _round_row("Flower 1.42", nodes, found.rounds, found.wire, found.server, found.client)
            return [flower, _our_rounds(folder, nodes)]
    except (OSError, subprocess.SubprocessError) as error:
        problem = str(error)
    return [{"part": "rounds", "row": "Flower 1.42", "note": NOT_MEASURED + problem}]


def _our_rounds(folder: Path, nodes: int) -> Row:
    """Our row: as many rounds with as many device processes; bytes are those between devices and broker."""
    with Place(folder / "rounds") as place, Proxy(place.broker.port) as proxy:
        with Coordinator(place.folder, place.broker.url, _NAME, nodes, ROUNDS) as coordinator:
            _start_devices(place, proxy.url, nodes, nodes, gate=False)
            ended = place.workers.wait_for("ended", nodes)
            started = coordinator.events("round_started")[0]["time"]
            times = [started, *(event["time"] for event in coordinator.events("round_closed"))]
            broker = peak_of(place.broker.pid)
        return _round_row(
            "ours",
            nodes,
            [later - earlier for earlier, later in itertools.pairwise(times)],
            proxy.passed.total(),
            coordinator.peak + broker,
            max(event["peak"] for event in ended),
        )


def _round_row(name: str, nodes: int, rounds: Sequence[float], wire: int, server: int, client: int) -> Row:
    return {
        "part": "rounds",
        "row": name,
        "devices": nodes,
        "first_round_s": rounds[0],
        "round_s": statistics.median(rounds[1:]),
        "wire_mb_a_device_and_round": wire / nodes / len(rounds) / 1e6,
        "server_mb": server / 1e6,
        "client_mb": client / 1e6,
    }


if __name__ == "__main__":
    main()
