"""Sketches of updates: made once, kept by what they were made from, made again when they are lost or damaged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from coordinator import rounds
from coordinator.config import BaseModel
from coordinator.learning.aggregate import Learning
from coordinator.learning.sketches import Subspaces
from coordinator.methods.clustering import MOST_DENSE, Sketcher, Sketches
from coordinator.methods.clustering.dense import basis_similarities
from coordinator.methods.clustering.micro_clusters.gram import Gram, indicators
from coordinator.methods.clustering.sketch import sketches_of
from coordinator.store import Database, MemoryBlobs, MemorySketches, SketchStore
from edge_sdk.adapter import Adapter, Shape, Share, left_basis, to_bytes
from edge_sdk.adapter.algebra import Bases
from edge_sdk.wire.transfer import make_manifest
from tests.coordinator.adapters import BASE_ID, SLOTS, random_adapter, rotated
from tests.coordinator.settings import federation_of

LAYERS = {name: shape.out_features for name, shape in SLOTS.items()}


def trace(number: int, **changes: object) -> rounds.Trace:
    values = {"cluster": 0, "rank": 4, "start": None, "seed": 0, "share": Share.BOTH, **changes}
    return rounds.Trace(f"{number}", rounds.Member(**values))  # type: ignore[arg-type]


class Reader:
    """Gives bases, and remembers which it was asked for."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, trace: rounds.Trace) -> Bases | None:
        if trace.member.share is Share.A_ONLY:
            return None
        self.read.append(trace.update)
        return left_basis(random_adapter(int(trace.update), 3))


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'c.sqlite'}"


@pytest.fixture(params=["memory", "sql"])
def store(request: pytest.FixtureRequest, address: str) -> Iterator[SketchStore]:
    if request.param == "memory":
        yield MemorySketches()
    else:
        database = Database(address, "s", BASE_ID)
        yield database.sketches
        database.close()


def test_an_update_is_read_once(store: SketchStore) -> None:
    reader = Reader()
    subspaces = Subspaces(reader, LAYERS, store)
    traces = [trace(1), None, trace(2), trace(3, share=Share.A_ONLY)]
    first, second = subspaces.sketches(traces), subspaces.sketches(traces)
    assert reader.read == ["1", "2"]
    assert first.trained.tolist() == [True, False, True, False]
    assert (first.numbers == second.numbers).all()
    assert first.numbers.any(axis=1).all()


def test_every_thing_that_it_was_made_from_counts(store: SketchStore) -> None:
    reader = Reader()
    subspaces = Subspaces(reader, LAYERS, store)
    start = make_manifest(b"start", role="cluster", name="cluster-0")
    changes: list[dict[str, object]] = [{}, {"rank": 3}, {"seed": 1}, {"share": Share.B}, {"start": start}]
    for changed in changes:
        subspaces.sketch(trace(1, **changed))
    assert len(reader.read) == len(changes)
    subspaces.sketch(trace(1, cluster=5))  # says nothing about the training
    assert len(reader.read) == len(changes)


def test_what_counts_no_more_is_forgotten(store: SketchStore) -> None:
    reader = Reader()
    subspaces = Subspaces(reader, LAYERS, store)
    subspaces.sketches([trace(1), trace(2)])
    subspaces.forget_all_but([trace(2)])
    subspaces.sketches([trace(1), trace(2)])
    assert reader.read == ["1", "2", "1"]


def test_they_survive_a_restart_and_damaged_ones_are_made_again(address: str) -> None:
    reader, found = Reader(), []
    for life in range(4):
        database = Database(address, "s", BASE_ID)
        found.append(Subspaces(reader, LAYERS, database.sketches).sketches([trace(1), trace(2)]).numbers)
        database.close()
        if life == 1:
            damage(address, "UPDATE sketches SET data = zeroblob(length(data))")
        if life == 2:
            damage(address, "UPDATE sketches SET data = substr(data, 1, 9)")
    assert reader.read == ["1", "2"] * 3
    assert all((numbers == found[0]).all() for numbers in found)


def damage(address: str, statement: str) -> None:
    engine = sa.create_engine(address)
    with engine.begin() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()


def test_many_are_deleted_some_at_a_time(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.store.sketches._AT_ONCE", 5)
    database = Database(address, "s", BASE_ID)
    for number in range(13):
        database.sketches.put(f"{number}", b"x")
    assert database.sketches.prune({"7", "12"}) == 11
    assert database.sketches.get("7") == b"x"
    assert database.sketches.get("8") is None
    database.close()


class TestLearning:
    def learning(self, store: SketchStore, clustering: str = "fused") -> tuple[Learning, MemoryBlobs]:
        blobs = MemoryBlobs()
        settings = federation_of(clustering=clustering)
        return Learning(settings, BaseModel(BASE_ID, SLOTS), dict, blobs, store), blobs

    def stored(self, blobs: MemoryBlobs, adapter: Adapter) -> rounds.Trace:
        return rounds.Trace(blobs.put(to_bytes(adapter)), trace(0).member)

    @pytest.mark.parametrize(
        ("clustering", "devices", "kept"),
        [("fused", MOST_DENSE + 1, 1), ("fused", MOST_DENSE, 0), ("prompt", 10_000, 0), ("single", 10_000, 0)],
    )
    def test_an_update_is_remembered_if_clustering_will_want_it(self, clustering: str, devices: int, kept: int) -> None:
        store = MemorySketches()
        learning, blobs = self.learning(store, clustering)
        trace = self.stored(blobs, random_adapter(0))
        sketch = learning.sketch(trace, devices)
        assert (sketch is not None) == kept
        if sketch is not None:
            learning.remember(trace, sketch)
        assert store.prune(set()) == kept

    def test_what_cannot_be_read_now_is_no_reason_to_refuse_it(self) -> None:
        store = MemorySketches()
        learning, blobs = self.learning(store)
        assert learning.sketch(rounds.Trace(blobs.put(b"no adapter"), trace(0).member), 10_000) is None


def test_inner_products_stand_for_principal_angles() -> None:
    wide = {f"unet.mid.attn{number}.to_q": Shape(24, 160) for number in range(8)}
    bases = [left_basis(random_adapter(seed, 1 + seed % 4, slots=wide)) for seed in range(40)]
    numbers = sketches_of(bases).numbers.astype(np.float64)
    exact = basis_similarities(bases)
    found = numbers @ numbers.T
    found /= np.sqrt(np.outer(np.diag(found), np.diag(found)))
    np.testing.assert_allclose(found, exact, atol=0.05)


def test_a_sketch_does_not_depend_on_the_factors_or_on_others() -> None:
    adapter = random_adapter(1)
    alone = Sketcher(LAYERS)(left_basis(adapter))
    turned = Sketcher(LAYERS)(left_basis(rotated(adapter, 5)))
    assert np.abs(alone.astype(int) - turned).max() <= 1
    assert (sketches_of([left_basis(random_adapter(2)), left_basis(adapter)]).numbers[1] == alone).all()


def test_layers_that_are_missing_zero_or_unknown_count_as_zero() -> None:
    basis = dict(left_basis(random_adapter(1)))
    first, second = sorted(basis)
    sketcher = Sketcher(LAYERS)
    half = sketcher.length // 2
    for changed in (
        {first: basis[first]},
        {**basis, second: basis[second][:, :0]},
        {first: basis[first], "x": basis[second]},
    ):
        sketch = sketcher(changed)
        assert sketch[:half].any()
        assert not sketch[half:].any()
    assert not sketcher({}).any()
    assert sketches_of([None, {}]).trained.tolist() == [False, True]


def test_a_gram_multiplies_like_the_matrix_of_centred_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.methods.clustering.micro_clusters.gram._BLOCK", 64)
    rng = np.random.default_rng(0)
    rows = rng.integers(-100, 100, (37, 12)).astype(np.int8)
    rows[5:] += rows[:32] // 4
    centred = rows - rows.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    weights = rng.normal(size=(37, 3)).astype(np.float32)
    gram = Gram(rows)
    np.testing.assert_allclose(gram.times(weights), centred @ centred.T @ weights, atol=1e-4)
    np.testing.assert_allclose(gram.squares, 1.0)
    labels = np.arange(37) % 4
    np.testing.assert_allclose(
        gram.times(indicators(labels)), centred @ centred.T @ np.eye(4, dtype=np.float32)[labels], atol=1e-4
    )
    some = np.arange(37) % 3 == 0
    np.testing.assert_allclose(
        gram.some(some).times(weights[some]), centred[some] @ centred[some].T @ weights[some], atol=1e-4
    )
    assert not Gram(np.ones((4, 3))).squares.any()
    assert Gram(np.zeros((0, 1), np.int8)).times(np.zeros((0, 2), np.float32)).shape == (0, 2)


def test_sketches_of_nobody() -> None:
    nobody = Subspaces(Reader(), LAYERS, MemorySketches()).sketches([None, None])
    assert isinstance(nobody, Sketches)
    assert nobody.numbers.shape[0] == 0
