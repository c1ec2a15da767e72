"""Comparing a group's updates: exactly, from cores, in bounded memory, and with one reading of each blob."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from typing import Any

import numpy as np
import pytest

from coordinator import rounds
from coordinator.config import BaseModel
from coordinator.learning import Learning
from coordinator.learning.summaries import HELD
from coordinator.methods.robust import FILTERS
from coordinator.methods.robust.changes import changes_of
from coordinator.methods.robust.cores import NUMBERS, Cores, products_of_changes, products_of_cores
from coordinator.store import MemoryBlobs
from edge_sdk.adapter import Adapter, Factors, Shape, Share, norm, to_bytes
from edge_sdk.wire.messages import Manifest
from edge_sdk.wire.transfer import make_manifest
from tests.coordinator.adapters import BASE_ID, SLOTS, gram, random_adapter, rotated
from tests.coordinator.settings import federation_of

WIDE = {f"unet.layer_{number}": Shape(96, 120) for number in range(40)}


def wide(seed: int, size: float = 1.0, rank: int = 4) -> Adapter:
    rng = np.random.default_rng(seed)
    layers = {
        name: Factors(
            rng.standard_normal((rank, shape.in_features)).astype(np.float32),
            (size * rng.standard_normal((shape.out_features, rank))).astype(np.float32),
        )
        for name, shape in WIDE.items()
    }
    return Adapter(layers, BASE_ID)


def test_inner_products_of_changes_are_exact_in_blocks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    starts = [random_adapter(1), random_adapter(2, 2)]
    updates = [random_adapter(10 + i, 1 + i % 4) for i in range(9)]
    of = [starts[i % 2] for i in range(9)]
    expected = gram(changes_of(updates, of))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(products_of_changes(updates, of), expected, atol=1e-5 * scale)
    monkeypatch.setattr("coordinator.methods.robust.cores._BLOCK", 40)
    np.testing.assert_allclose(products_of_changes(updates, of), expected, atol=1e-5 * scale)


def test_cores_of_small_layers_are_exact() -> None:
    updates, start = [random_adapter(i) for i in range(5)], random_adapter(9)
    cores = Cores(len(SLOTS), 7)
    found = products_of_cores([(cores(u) - cores(start)).astype(np.float32) for u in updates], None)
    expected = gram(changes_of(updates, [start] * 5))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_cores_of_large_layers_are_near_and_their_norms_are_exact() -> None:
    updates = [wide(seed, 1.0 + 0.5 * seed) for seed in range(8)]
    made = [Cores(len(WIDE), 7)(update).astype(np.float32) for update in updates]
    assert all(core.nbytes <= 4 * NUMBERS for core in made)
    expected, norms = gram(updates), [norm(update) for update in updates]
    found = products_of_cores(made, norms)
    lengths = np.outer(norms, norms)
    np.testing.assert_allclose(np.sqrt(np.diag(found)), norms, rtol=1e-6)
    np.testing.assert_allclose(found / lengths, expected / lengths, atol=0.15)


def test_cores_do_not_depend_on_the_gauge_and_do_on_the_seed() -> None:
    update = wide(1)
    one, other = (Cores(len(WIDE), 7)(adapter) for adapter in (update, rotated(update, 3)))
    np.testing.assert_allclose(one, other, atol=1e-3 * np.abs(one).max())
    assert not np.allclose(one, Cores(len(WIDE), 8)(update))


@pytest.mark.parametrize("name", ["krum", "trim", "median"])
def test_liars_are_found_by_cores(name: str) -> None:
    common = wide(0)
    group = [*range(30)]
    layers = [
        {
            n: Factors(f.a, (f.b + 0.3 * wide(i).layers[n].b) * (-3.0 if i < 6 else 1.0))
            for n, f in common.layers.items()
        }
        for i in range(1, 31)
    ]
    updates = [Adapter({n: Factors(f.a, f.b.astype(np.float32)) for n, f in each.items()}, BASE_ID) for each in layers]
    cores = Cores(len(WIDE), 7)
    found = products_of_cores([cores(u).astype(np.float32) for u in updates], [norm(u) for u in updates])
    belief = FILTERS[name]()(found, np.ones(len(group))).weights
    assert belief[:5].max() < 0.5 * belief[5:].min() if name == "median" else not belief[:5].any()


class CountedBlobs(MemoryBlobs):
    """Counts the readings of each blob."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[str] = Counter()

    def get(self, sha256: str) -> bytes:
        self.reads[sha256] += 1
        return super().get(sha256)


class World:
    """A closed round of many updates, checked when they arrived or not."""

    def __init__(self, count: int, *, checked: bool, slots: dict[str, Shape] = SLOTS, **settings: Any) -> None:
        self.blobs = CountedBlobs()
        federation = federation_of(clustering="single", rank=4, **settings)
        self.learning = Learning(federation, BaseModel(BASE_ID, slots), dict, self.blobs)
        start = self.blob(random_adapter(0, 4) if slots is SLOTS else wide(0), "cluster")
        member = rounds.Member(0, 4, start, 0, Share.BOTH)
        updates, cohort = {}, {}
        for number in range(count):
            update = random_adapter(1 + number, 4) if slots is SLOTS else wide(1 + number)
            manifest = self.blob(update, "update")
            if checked:
                data = self.blobs.get(manifest.sha256)
                _, size = self.learning.check_update(data, member, manifest.sha256)
            else:
                size = 1.0
            name = f"d{number:04}"
            cohort[name] = member
            updates[name] = rounds.Update(
                manifest=manifest,
                member=member,
                pictures=1,
                first_loss=1.0,
                last_loss=0.5,
                train_seconds=1.0,
                norm=size,
            )
        closed = rounds.Round(number=2, attempt=2, stage="cluster", deadline=1.0, cohort=cohort, updates=updates)
        self.action = rounds.Aggregate(closed, False, rounds.Lineage(), {0: rounds.Lineage(start)})
        self.blobs.reads.clear()

    def blob(self, adapter: Adapter, role: str) -> Manifest:
        data = to_bytes(adapter)
        self.blobs.put(data)
        return make_manifest(data, role=role, name=role)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["none", "clip", "trim"])
@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("held", [HELD, 0])
def test_each_blob_is_read_once(name: str, checked: bool, held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a filter it was read three times before. A group too large for memory is read twice, after a restart."""
    monkeypatch.setattr("coordinator.learning.summaries.HELD", held)
    world = World(12, checked=checked, filter=name)
    answer = world.learning.try_aggregate(world.action)
    assert isinstance(answer, rounds.Aggregated)
    most = 1 if checked or held else 2
    assert max(world.blobs.reads.values()) == most
    assert len(world.blobs.reads) <= 13


def test_a_thousand_updates_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound of `learning.summaries`. Before, all changes were held at the sum of their ranks and their starts'."""
    monkeypatch.setattr("coordinator.learning.summaries.HELD", 1 << 20)
    count = 1000
    world = World(count, checked=True, slots=WIDE, filter="krum", aggregation="fedit")
    updates = count * sum(4 * 4 * (shape.in_features + shape.out_features) for shape in WIDE.values())
    tracemalloc.start()
    try:
        answer = world.learning.try_aggregate(world.action)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(answer, rounds.Aggregated)
    assert max(world.blobs.reads.values()) == 1
    matrices = 8 * count**2
    assert peak < (1 << 20) + 2 * 4 * count * NUMBERS * 2 + 6 * matrices < updates
