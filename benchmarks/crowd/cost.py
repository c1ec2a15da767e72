"""Cost of many devices to a coordinator: clustering 10,000 of them, and the arrival of an update among so many.

Both use the coordinator's own parts and a database on disk. Clustering is that of a coordinator just restarted: it
reads all profiles and all sketches. The sketches come from bases that `crowd.tastes` makes, as if an update of
each device had arrived before; that time is not counted, and clustering may not ask for any basis.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from sklearn.metrics import adjusted_rand_score

from benchmarks.crowd.tastes import LAYERS, NOISES, RANK, Federation
from benchmarks.shared.harness import Row
from benchmarks.shared.memory import total_peak
from coordinator import rounds
from coordinator.config import BaseModel, resolve
from coordinator.learning import Learning, Subspaces, Tastes, Updates
from coordinator.methods.clustering import CLUSTERERS, RULES, Evidence, coarse, partition
from coordinator.store import Database, open_blobs
from edge_sdk.adapter import Adapter, Bases, Factors, Shape, Share, to_bytes
from edge_sdk.wire import DeviceProfile, make_manifest

CLUSTERER = "fused"
_BASE_ID = "0" * 64
_SETTINGS = resolve(
    {
        "name": "crowd", "slots": "impasto.json", "privacy": "plain", "allow_plain": True,
        "clustering": {"method": CLUSTERER},
    },
    folder=Path(),
)  # fmt: skip
_OUTPUTS = {f"unet.{kind}.{layer}": out for kind, (count, out) in LAYERS.items() for layer in range(count)}


def in_own_process(devices: int, groups: int, noise: str, after: int, seed: int) -> Row:
    """Seconds, peak memory and ARI of clustering `devices` devices after `after` rounds of training.

    Raises:
        RuntimeError: the process ended without an answer.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_many, args=(sender, devices, groups, noise, after, seed))
    process.start()
    sender.close()
    try:
        row: Row = receiver.recv()
    except EOFError as error:
        raise RuntimeError(f"The process for {devices} devices ended without an answer.") from error
    finally:
        process.join()
    return row


def arrival(devices: int) -> Row:
    """Milliseconds that an arriving update costs: read from its blob, and its sketch written to the database."""
    shapes = {name: Shape(out, out) for name, out in _OUTPUTS.items()}
    rng = np.random.default_rng(0)

    def moved(base: Adapter | None) -> Adapter:
        layers = {}
        for name, shape in shapes.items():
            a = rng.standard_normal((RANK, shape.in_features), np.float32)
            b = rng.standard_normal((shape.out_features, RANK), np.float32)
            layers[name] = Factors(base.layers[name].a + a, base.layers[name].b + b) if base else Factors(a, b)
        return Adapter(layers, _BASE_ID)

    with tempfile.TemporaryDirectory() as home:
        blobs, database = open_blobs(f"{home}/blobs"), _database(home)
        start = moved(None)
        data = to_bytes(start)
        blobs.put(data)
        member = rounds.Member(0, RANK, make_manifest(data, role="cluster", name="cluster-0"), 0, Share.BOTH)
        traces = [rounds.Trace(blobs.put(to_bytes(moved(start))), member) for _ in range(devices)]
        base = BaseModel(_BASE_ID, shapes)
        learning = Learning(_SETTINGS, base, database.profiles, blobs, database.sketches)
        updates = Updates(_SETTINGS, base, blobs)
        began = time.perf_counter()
        for trace in traces:
            updates.basis(trace)
        read = time.perf_counter() - began
        began = time.perf_counter()
        for trace in traces:
            sketch = learning.sketch(trace, 10_000)
            assert sketch is not None
            learning.remember(trace, sketch)
        taken = time.perf_counter() - began
        database.close()
    return {
        "part": "arrival",
        "devices": devices,
        "reading_ms": 1e3 * read / devices,
        "ms_a_device": 1e3 * taken / devices,
    }


class _Made:
    """The bases of the federation, as if read from updates named by the devices' numbers."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation
        self.count = 0

    def __call__(self, trace: rounds.Trace) -> Bases:
        self.count += 1
        return self._federation[int(trace.update)]


def _many(answer: Connection, devices: int, groups: int, noise: str, after: int, seed: int) -> None:
    federation = Federation(devices, groups, NOISES[noise], seed)
    member = rounds.Member(0, RANK, None, 0, Share.BOTH)
    # Sorted by name, they are in the order of their numbers.
    known = {
        f"d{number:06}": rounds.Device(max_rank=RANK, trace=rounds.Trace(f"{number}", member))
        for number in range(devices)
    }
    action = rounds.Cluster(after + 1, known, 0, None)
    traces = [device.trace for device in known.values()]
    with tempfile.TemporaryDirectory() as home:
        database, made = _database(home), _Made(federation)
        profiles = {
            name: DeviceProfile(base_id=_BASE_ID, prompt_code=code.astype("<f4").tobytes(), pictures=1, max_rank=RANK)
            for name, code in zip(known, federation.codes, strict=True)
        }
        database.save(rounds.State(), profiles=profiles)
        subspaces = Subspaces(made, _OUTPUTS, database.sketches)
        for trace in traces:
            assert trace is not None
            subspaces.sketch(trace)
        database.close()

        made.count = 0
        began = time.perf_counter()
        database = _database(home)
        subspaces = Subspaces(made, _OUTPUTS, database.sketches)
        clustered = Tastes(_SETTINGS, database.profiles, subspaces).cluster(action)
        seconds = time.perf_counter() - began
        peak = total_peak()

        began = time.perf_counter()
        sketches = subspaces.sketches(traces)
        reading = time.perf_counter() - began
        database.close()
        kept = sum(path.stat().st_size for path in Path(home).iterdir())
    evidence = Evidence(federation.codes, (), after, sketches)
    crowd = coarse(evidence, CLUSTERERS[CLUSTERER]()(evidence))

    def ari(labels: object) -> float:
        return float(adjusted_rand_score(federation.truth, labels))

    answer.send(
        {
            "part": "many",
            "devices": devices,
            "groups": groups,
            "noise": noise,
            "found": len(set(clustered.assignment.values())),
            "ari": ari([clustered.assignment[name] for name in known]),
            **{f"ari_{rule}": ari(partition(crowd, choose=rule)) for rule in RULES},
            "ari_given": ari(partition(crowd, clusters=groups)),
            "seconds": seconds,
            "reading_s": reading,
            "bases_read": made.count,
            "database_mb": kept / 1e6,
            "peak_gb": peak / 1e9,
        }
    )


def _database(home: str) -> Database:
    return Database(str(sa.URL.create("sqlite", database=f"{home}/coordinator.sqlite")), _SETTINGS.name, _BASE_ID)
