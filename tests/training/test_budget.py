"""Training within a memory limit: the order of ways, the prediction, and what a way changes of the result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_sdk import adapter as adapters
from edge_sdk.adapter import LAYER_SETS, LayerSet
from edge_sdk.errors import MemoryLimitTooSmall, TrainingError
from edge_sdk.training import Trainer, trainer
from edge_sdk.training.base_model.stored_weights import Storage
from edge_sdk.training.memory.budget import KERNELS, LIBRARIES, Facts, Way, chosen
from edge_sdk.training.memory.dry_run import Case, DryRuns
from tests.models import tiny_model
from tests.training.samples import squares

GB = 10**9
FACTS = Facts(
    model=Path("model"),
    process=400_000_000,
    mapped=True,
    weights={"fp32": 3 * GB, "bf16": 3 * GB // 2},
    storages=("fp32", "bf16"),
    encoding=lambda size: 0,
    step=lambda way: way.at_once * (200_000_000 if way.checkpointing else GB) * way.image_size // 512,
    parameters=lambda layers: 10**6 * (1 + LAYER_SETS.index(layers)),
)


def way(limit: float, facts: Facts = FACTS, batch: int = 4, layers: tuple[LayerSet, ...] = ("attention",)) -> Way:
    found = chosen(facts, int(limit * GB), batch, (512, 256), layers)
    assert found.anonymous + LIBRARIES <= limit * GB
    return found.way


@pytest.mark.parametrize(
    ("limit", "storage", "checkpointing", "at_once", "size"),
    [
        (8.0, "fp32", False, 4, 512),
        (7.0, "fp32", False, 2, 512),
        (5.0, "fp32", False, 1, 512),
        (4.5, "fp32", True, 4, 512),
        (4.0, "fp32", True, 1, 512),
        (3.5, "bf16", False, 1, 512),
        (3.0, "bf16", True, 4, 512),
        (1.5, "bf16", True, 4, 512),  # the weights are read again at every step
        (0.9, "bf16", True, 1, 512),
        (0.8, "bf16", True, 1, 256),
    ],
)
def test_ways_are_taken_from_the_best_to_the_slowest(
    limit: float, storage: Storage, checkpointing: bool, at_once: int, size: int
) -> None:
    assert way(limit) == Way(size, "attention", storage, checkpointing, at_once)


def test_fewer_layers_come_before_smaller_pictures() -> None:
    many = replace(FACTS, parameters=lambda layers: 10**7 * (1 + LAYER_SETS.index(layers)))
    found = way(1.5, many, layers=("all", "transformer", "attention"))
    assert (found.layers, found.image_size) == ("transformer", 512)


def test_what_does_not_fit_is_refused_with_what_it_takes() -> None:
    with pytest.raises(MemoryLimitTooSmall) as refused:
        chosen(FACTS, 500_000_000, 4, (512, 256), ("attention",))
    said = str(refused.value)
    assert "model does not fit into 500 MB" in said
    assert "pictures of 256 x 256, layers attention, one picture at once" in said
    assert "of which the process itself has 400 MB" in said
    enough = said.partition("memory_limit='")[2].partition("'")[0]
    assert chosen(FACTS, 10**6 * int(enough.removesuffix(" MB")), 4, (512, 256), ("attention",)).way.at_once == 1


def test_encoding_counts_if_it_takes_more_than_a_step() -> None:
    found = chosen(replace(FACTS, encoding=lambda size: 2 * GB), 6 * GB, 1, (512,), ("attention",))
    assert found.anonymous == FACTS.process + 2 * GB


def test_weights_that_are_not_mapped_are_the_process_own() -> None:
    mapped, own = (chosen(replace(FACTS, mapped=m), 9 * GB, 4, (512,), ("attention",)) for m in (True, False))
    assert (mapped.file, own.file) == (3 * GB, 0)
    assert own.anonymous == mapped.anonymous + 3 * GB == FACTS.process + 7 * GB + 32 * 10**6 + KERNELS


def test_a_budget_says_what_it_chose() -> None:
    assert str(chosen(FACTS, 3 * GB // 2, 4, (512,), ("attention",))) == (
        "within 1.5 GB: pictures of 512 x 512, layers attention, weights in bfloat16, 4 of 4 pictures at once, with "
        "checkpointing; predicted peak 1.3 GB of anonymous memory, and 1.5 GB of mapped weights, read again at every "
        "step"
    )


def test_a_dry_run_counts_what_a_step_takes() -> None:
    runs = DryRuns(tiny_model())
    plain = Case((4, 32, 32), (32, 32), 4, "attention", "fp32", "bf16", checkpointing=False)
    one = runs.peak(plain, 1)
    assert one < runs.peak(plain, 4) <= 4 * one
    assert runs.peak(replace(plain, checkpointing=True), 1) < one
    assert runs.peak(replace(plain, latent_shape=(4, 16, 16)), 1) < one
    assert runs.peak(replace(plain, precision="bf16"), 1) < one < runs.peak(replace(plain, layers="all"), 1)
    assert runs.weights("bf16") < runs.weights("fp32") < 2 * runs.weights("bf16")


@pytest.fixture(scope="module")
def limited() -> Trainer:
    return Trainer(tiny_model(), squares(6), rank=4, batch_size=6, precision="fp32", threads=1, memory_limit="2GB")


def test_a_trainer_keeps_its_limit_and_says_how(limited: Trainer) -> None:
    assert limited.budget is not None
    assert limited.budget == limited.plan()
    assert limited.budget.way == Way(32, "attention", "fp32", False, 6)
    assert 0 < limited.budget.anonymous < limited.budget.limit == 2 * GB
    wide = limited.plan(batch_size=4096, layers="all")
    assert wide is not None
    assert wide.way.at_once < 4096
    assert Trainer(tiny_model(), squares(1), threads=1).plan() is None


@pytest.mark.parametrize(("at_once", "checkpointing"), [(6, True), (4, False), (1, True)])
def test_how_it_goes_does_not_change_what_is_learnt(
    limited: Trainer, at_once: int, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = limited.train(steps=3)
    assert limited.budget is not None
    other = replace(limited.budget, way=replace(limited.budget.way, at_once=at_once, checkpointing=checkpointing))
    monkeypatch.setattr(limited, "_planned", lambda settings: other)
    found = limited.train(steps=3)
    assert found.stats.last_loss == pytest.approx(usual.stats.last_loss, rel=1e-4)
    if at_once == 6:  # the same bits
        assert adapters.to_bytes(found.adapter) == adapters.to_bytes(usual.adapter)
    for name, factors in usual.adapter.layers.items():
        assert np.allclose(found.adapter.layers[name].b, factors.b, atol=2e-4)
    assert not limited._unet.is_gradient_checkpointing


def test_a_limit_that_is_too_small_is_refused_before_the_unet_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "load_unet", None)
    with pytest.raises(MemoryLimitTooSmall, match="Give memory_limit="):
        Trainer(tiny_model(), squares(1), threads=1, memory_limit="20MB")
    with pytest.raises(TrainingError, match="memory_limit: 'much' is no size"):
        Trainer(tiny_model(), squares(1), threads=1, memory_limit="much")


def test_a_training_that_does_not_fit_any_more_is_refused(limited: Trainer) -> None:
    with pytest.raises(MemoryLimitTooSmall, match="a smaller rank"):
        limited.train(steps=1, rank=200_000)
