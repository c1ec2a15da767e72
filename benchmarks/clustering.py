"""Clusterers and rules on federations of known groups: exact and coarse, up to 10,000 devices.

    python -m benchmarks.clustering [--quick] [--seed N] [--json FILE]

`benchmarks.tastes` says how the federations are made. ARI is the adjusted Rand index against the known groups: 1 is
all right, 0 is chance. Seconds are those of comparing and grouping, bases being there; `_reading` measures what it
takes to get bases from updates. The rows of 10,000 devices each come from a process of their own, which makes bases
when the clustering asks for them; the time for making them is not counted.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection

import numpy as np
from rich.progress import track
from sklearn.metrics import adjusted_rand_score

from benchmarks.harness import Bar, Report, Row, arguments, value_of
from benchmarks.memory import total_peak
from benchmarks.tastes import LAYERS, NOISES, RANK, Federation
from coordinator import rounds
from coordinator.clustering import CLUSTERERS, RULES, Crowd, Dense, Evidence, coarse, partition, similarity
from coordinator.config import BaseModel
from coordinator.config import Federation as Settings
from coordinator.learning import Learning
from coordinator.simulation import MemoryBlobs
from edge_sdk.adapter import Adapter, Factors, Shape, Share, to_bytes
from edge_sdk.adapter.algebra import Bases
from edge_sdk.wire.transfer import make_manifest

GROUPS = {16: 4, 100: 5, 500: 8, 10_000: 20}
JUDGED = 500  # devices at which coarse is held against dense
LARGE = 10_000
SEEDS = 3
ROUNDS = 2  # of training behind the evidence: fused has come to its last weights
GIVEN = "given"  # the number of groups is told
CROSSING = (50, 100, 150, 200, 300, 500)
READ = 100  # devices whose blobs are read
_BASE_ID = "0" * 64


def main(given: Sequence[str] | None = None) -> None:
    """Measure and report."""
    assert __doc__ is not None
    chosen = arguments(__doc__.splitlines()[0], given)
    quick = chosen.quick
    seeds = [chosen.seed + number for number in range(1 if quick else SEEDS)]
    report = Report(chosen, seeds=seeds)
    sizes = (16, 100) if quick else (16, 100, JUDGED)
    cases = [(size, noise, seed) for size in sizes for noise in NOISES for seed in seeds]
    rows = [row for case in track(cases, description="groups") for row in _grouped(*case)]
    report.rows += _means(rows)
    report.rows += [_crossing(size, chosen.seed) for size in CROSSING[: 1 if quick else None]]
    for noise in track(["middle"] if quick else list(NOISES), description="many devices"):
        report.rows.append(in_own_process(1000 if quick else LARGE, noise, chosen.seed))
    report.rows.append(_reading(10 if quick else READ))
    report.bars += bars(report.rows)
    report.finish()


def bars(rows: Sequence[Row]) -> list[Bar]:
    """What the coarse method may lose at each level of noise, and what 10,000 devices may cost."""
    found: list[Bar] = []
    exact = {_case(row): value_of(row, "ari") for row in rows if row.get("how") == "dense"}
    lost: dict[tuple[str, str], float] = {}
    for row in rows:
        if row.get("how") == "coarse" and row["devices"] == JUDGED:
            key = (str(row["noise"]), str(row["rule"]))
            lost[key] = max(lost.get(key, -1.0), exact[_case(row)] - value_of(row, "ari"))
    found += [
        Bar(f"{JUDGED} devices, {noise} noise, {rule}: ARI that coarse loses to dense, worst clusterer", value, 0.02)
        for (noise, rule), value in lost.items()
    ]
    for row in (row for row in rows if row["part"] == "many"):
        name = f"{row['devices']} devices, {row['noise']} noise"
        found += [
            Bar(f"{name}: seconds, bases being there", value_of(row, "seconds"), 60.0),
            Bar(f"{name}: peak memory, GB", value_of(row, "peak_gb"), 2.0),
        ]
        read = next((value_of(one, "ms_a_device") for one in rows if one["part"] == "reading"), float("nan"))
        with_reading = value_of(row, "seconds") + 1e-3 * read * value_of(row, "devices")
        found.append(Bar(f"{name}: seconds, with reading all updates (projected)", with_reading, 60.0))
    return found


def in_own_process(devices: int, noise: str, seed: int) -> Row:
    """Seconds, peak memory and ARI of so many devices.

    RuntimeError: the process ended without an answer.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_many, args=(there, devices, noise, seed))
    process.start()
    there.close()
    try:
        row: Row = here.recv()
    except EOFError as error:
        raise RuntimeError(f"The process for {devices} devices ended without an answer.") from error
    finally:
        process.join()
    return row


class _Timed(Federation):
    """Counts the seconds that making bases takes."""

    spent = 0.0

    def __iter__(self) -> Iterator[Bases]:
        for at in range(len(self)):
            began = time.perf_counter()
            bases = self[at]
            self.spent += time.perf_counter() - began
            yield bases


def _many(answer: Connection, devices: int, noise: str, seed: int) -> None:
    groups = GROUPS.get(devices, GROUPS[JUDGED])
    federation = _Timed(devices, groups, NOISES[noise], seed)
    began = time.perf_counter()
    evidence = federation.evidence(ROUNDS, kept=False)
    crowd = coarse(evidence, CLUSTERERS["fused"](evidence))
    compared = time.perf_counter() - began - federation.spent
    began = time.perf_counter()
    labels = partition(crowd, choose="eigengap")
    grouped = time.perf_counter() - began
    answer.send(
        {
            "part": "many",
            "devices": devices,
            "groups": groups,
            "noise": noise,
            "found": int(labels.max()) + 1,
            "ari_eigengap": float(adjusted_rand_score(federation.truth, labels)),
            "ari_silhouette": float(adjusted_rand_score(federation.truth, partition(crowd, choose="silhouette"))),
            "ari_given": float(adjusted_rand_score(federation.truth, partition(crowd, clusters=groups))),
            "seconds": compared + grouped,
            "grouping_s": grouped,
            "making_s": federation.spent,
            "peak_gb": total_peak() / 1e9,
        }
    )


def _grouped(devices: int, noise: str, seed: int) -> Iterator[dict[str, str | int | float]]:
    federation = Federation(devices, GROUPS[devices], NOISES[noise], seed)
    evidence = federation.evidence(ROUNDS)
    for method in CLUSTERERS.built_in:
        for how in ("dense", "coarse"):
            began = time.perf_counter()
            crowd = _compare(evidence, method, how)
            compared = time.perf_counter() - began
            for rule in (*RULES.built_in, GIVEN):
                began = time.perf_counter()
                labels = _partition(crowd, rule, GROUPS[devices])
                yield {
                    "part": "groups",
                    "devices": devices,
                    "noise": noise,
                    "clusterer": method,
                    "rule": rule,
                    "how": how,
                    "ari": float(adjusted_rand_score(federation.truth, labels)),
                    "found": int(labels.max()) + 1,
                    "seconds": compared + time.perf_counter() - began,
                }


def _compare(evidence: Evidence, method: str, how: str) -> Crowd:
    blend = CLUSTERERS[method](evidence)
    return Dense(similarity(evidence, blend)) if how == "dense" else coarse(evidence, blend)


def _partition(crowd: Crowd, rule: str, groups: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return partition(crowd, clusters=groups) if rule == GIVEN else partition(crowd, choose=rule)


def _means(rows: Sequence[Row]) -> list[Row]:
    """One row for all seeds."""
    found: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        found.setdefault((*_case(row), row["how"]), []).append(row)
    return [
        {
            **same[0],
            "ari": statistics.mean(value_of(row, "ari") for row in same),
            "worst_ari": min(value_of(row, "ari") for row in same),
            "found": statistics.mean(value_of(row, "found") for row in same),
            "seconds": statistics.median(value_of(row, "seconds") for row in same),
        }
        for same in found.values()
    ]


def _crossing(devices: int, seed: int) -> Row:
    """Both methods in turns, medians of three."""
    federation = Federation(devices, 5, NOISES["middle"], seed)
    evidence = federation.evidence(ROUNDS)
    seconds: dict[str, list[float]] = {"dense": [], "coarse": []}
    for _ in range(3):
        for how, taken in seconds.items():
            began = time.perf_counter()
            partition(_compare(evidence, "fused", how))
            taken.append(time.perf_counter() - began)
    medians = {f"{how}_s": statistics.median(taken) for how, taken in seconds.items()}
    return {"part": "crossing", "devices": devices, **medians}


def _reading(devices: int) -> Row:
    """From the blobs of updates to bases: the work of the coordinator before it compares."""
    shapes = {f"unet.{k}{i}.to_q": Shape(out, out) for k, (count, out) in LAYERS.items() for i in range(count)}
    rng, blobs = np.random.default_rng(0), MemoryBlobs()

    def moved(base: Adapter | None) -> Adapter:
        layers = {}
        for name, shape in shapes.items():
            a = rng.standard_normal((RANK, shape.in_features), np.float32)
            b = rng.standard_normal((shape.out_features, RANK), np.float32)
            layers[name] = Factors(base.layers[name].a + a, base.layers[name].b + b) if base else Factors(a, b)
        return Adapter(layers, _BASE_ID)

    start = moved(None)
    data = to_bytes(start)
    blobs.put(data)
    member = rounds.Member(0, RANK, make_manifest(data, role="cluster", name="cluster-0"), 0, Share.BOTH)
    traces = [rounds.Trace(blobs.put(to_bytes(moved(start))), member) for _ in range(devices)]
    learning = Learning(Settings(name="reading", slots="impasto.json"), BaseModel(_BASE_ID, shapes), dict, blobs)
    began = time.perf_counter()
    for trace in traces:
        learning.basis(trace)
    taken = time.perf_counter() - began
    return {"part": "reading", "devices": devices, "seconds": taken, "ms_a_device": 1e3 * taken / devices}


def _case(row: Row) -> tuple[object, ...]:
    return tuple(row.get(name) for name in ("devices", "noise", "clusterer", "rule"))


if __name__ == "__main__":
    main()
