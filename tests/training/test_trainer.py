from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ImageOps

from edge_sdk import adapter as adapters
from edge_sdk.adapter import Adapter, Factors
from edge_sdk.errors import AdapterMismatch, NoPictures, OutOfMemory, PictureUnreadable, TrainingError
from edge_sdk.inference.bundle.base_id import compute_base_id
from edge_sdk.training import Progress, Trainer
from edge_sdk.training.precision import TrainingPrecision
from edge_sdk.training.trainer import _enough_memory
from tests.models import KINDS, Kind, tiny_model, write_model
from tests.training.samples import squares


def new_trainer(
    kind: Kind = "v_prediction", rate: float = 3e-3, precision: TrainingPrecision = "fp32", pictures: int = 6
) -> Trainer:
    return Trainer(tiny_model(kind), squares(pictures), rank=4, learning_rate=rate, precision=precision, threads=1)


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    return new_trainer()


def equal(x: Adapter, y: Adapter) -> bool:
    return adapters.to_bytes(x) == adapters.to_bytes(y)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_learns(kind: Kind, precision: TrainingPrecision) -> None:
    trainer = new_trainer(kind, precision=precision)
    held_out = squares(9)[6:]
    before = trainer.evaluate(pictures=held_out)
    result = trainer.train(steps=40)
    assert result.steps == 40
    assert result.stats.last_loss < result.stats.first_loss
    assert result.adapter.base_id == trainer.base_id == compute_base_id(tiny_model(kind))
    assert result.adapter.rank == 4
    assert trainer.evaluate([(result.adapter, 1.0)], held_out) < 0.95 * before
    assert trainer.evaluate(pictures=held_out) == before


def test_the_same_run_gives_the_same_adapter(trainer: Trainer) -> None:
    first, again, other = (trainer.train(steps=3, seed=seed).adapter for seed in (5, 5, 6))
    assert equal(first, again)
    assert not equal(first, other)


def test_devices_share_the_start_but_not_the_noise() -> None:
    """One step at a vanishing learning rate leaves A where it was; B shows the gradient."""
    layer, factors = next(iter(new_trainer(pictures=4, rate=1e-9).train(steps=1, seed=1).adapter.layers.items()))
    other = new_trainer(pictures=5, rate=1e-9).train(steps=1, seed=1).adapter.layers[layer]
    assert np.allclose(factors.a, other.a, atol=1e-7)
    assert not np.array_equal(factors.b, other.b)


def test_trainers_of_several_devices_share_the_unet_and_nothing_else() -> None:
    first = new_trainer(pictures=6)
    second = first.with_pictures(squares(9)[6:])
    assert (first.pictures, second.pictures) == (6, 3)
    alone = Trainer(tiny_model("v_prediction"), squares(9)[6:], rank=4, learning_rate=3e-3, precision="fp32", threads=1)
    before = first.train(steps=2).adapter
    assert equal(second.train(steps=2).adapter, alone.train(steps=2).adapter)
    assert equal(first.train(steps=2).adapter, before)
    assert second.evaluate() == alone.evaluate() != first.evaluate()


def test_training_goes_on_from_a_start(trainer: Trainer) -> None:
    first = trainer.train(steps=30)
    second = trainer.train(steps=10, start=first.adapter)
    assert second.stats.first_loss < 0.95 * first.stats.first_loss
    assert adapters.cosine(first.adapter, second.adapter) > 0.7


def test_frozen_adapters_lie_under_the_trained_one(trainer: Trainer) -> None:
    root = trainer.train(steps=30).adapter
    alone = trainer.train(steps=5)
    on_top = trainer.train(steps=5, frozen=[(root, 1.0)])
    assert on_top.stats.first_loss < 0.95 * alone.stats.first_loss
    assert trainer.evaluate([(root, 1.0), (on_top.adapter, 1.0)]) < trainer.evaluate([(on_top.adapter, 1.0)])


def test_evaluation_is_the_same_for_an_adapter_in_parts(trainer: Trainer) -> None:
    adapter = trainer.train(steps=5).adapter
    whole = trainer.evaluate([(adapter, 1.0)])
    assert trainer.evaluate([(adapter, 0.25), (adapter, 0.75)]) == pytest.approx(whole, rel=1e-5)
    assert trainer.evaluate([(adapter, 1.0)], seed=1) != whole


def test_it_stops_on_time(trainer: Trainer) -> None:
    result = trainer.train(minutes=1e-6)
    assert result.steps == 1
    assert result.stats.train_seconds > 0


def test_progress_is_reported_and_may_end_the_training(trainer: Trainer) -> None:
    seen: list[Progress] = []
    trainer.train(steps=3, on_step=seen.append)
    assert [(progress.step, progress.steps) for progress in seen] == [(1, 3), (2, 3), (3, 3)]
    assert all(progress.loss > 0 for progress in seen)

    def stop(progress: Progress) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        trainer.train(steps=3, on_step=stop)
    assert trainer.train(steps=1).steps == 1


def test_a_long_caption_is_cut_and_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="edge_sdk"):
        Trainer(tiny_model(), [(squares(1)[0][0], "very " * 60 + "red")], threads=1)
    assert "Caption cut" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_timesteps_are_the_usual_ones_of_the_prediction(kind: Kind) -> None:
    def first_loss(**gamma: float | None) -> float:
        trainer = Trainer(tiny_model(kind), squares(4), threads=1, precision="fp32", **gamma)
        return trainer.train(steps=1).stats.first_loss

    usual, weighted, plain = first_loss(), first_loss(min_snr_gamma=5.0), first_loss(min_snr_gamma=None)
    assert usual == (weighted if kind == "epsilon" else plain)
    assert weighted < plain


@pytest.mark.parametrize(
    "train",
    [
        lambda t: t.train(),
        lambda t: t.train(steps=0),
        lambda t: t.train(minutes=0),
        lambda t: t.train(minutes=float("nan")),
    ],
    ids=["neither", "no steps", "no time", "nan"],
)
def test_how_long_must_be_said(trainer: Trainer, train: Callable[[Trainer], object]) -> None:
    with pytest.raises(TrainingError, match="how long"):
        train(trainer)


@pytest.mark.parametrize(
    "settings",
    [
        {"rank": 0},
        {"batch_size": 0},
        {"learning_rate": -1.0},
        {"caption_dropout": 2.0},
        {"threads": 0},
        {"min_snr_gamma": 0.0},
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, float]) -> None:
    with pytest.raises(TrainingError, match="Training needs"):
        Trainer(tiny_model(), squares(1), **settings)  # type: ignore[arg-type]


def test_a_diverging_training_is_named() -> None:
    with pytest.raises(TrainingError, match="smaller learning rate"):
        new_trainer(rate=1e30).train(steps=5)


def test_no_pictures() -> None:
    with pytest.raises(NoPictures):
        Trainer(tiny_model(), [])


def test_a_damaged_picture_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    (tmp_path / "a.txt").write_text("a caption", encoding="utf-8")
    with pytest.raises(PictureUnreadable, match=r"a\.png"):
        Trainer(tiny_model(), tmp_path)


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="is no diffusers folder"):
        Trainer(tmp_path / "nowhere", squares(1))
    for part in ("unet", "vae", "text_encoder"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text("{}")
    with pytest.raises(TrainingError, match="Stable Diffusion"):
        Trainer(tmp_path, squares(1))


def test_a_model_without_weights_is_named(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    (model / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(TrainingError, match=r"vae/diffusion_pytorch_model\.safetensors is no safetensors file"):
        Trainer(model, squares(1), threads=1)


def test_an_adapter_of_another_model_is_refused(trainer: Trainer) -> None:
    foreign = Adapter({name: Factors(f.a, f.b) for name, f in trainer.train(steps=1).adapter.layers.items()}, "other")
    before = trainer.evaluate()
    with pytest.raises(AdapterMismatch):
        trainer.train(steps=1, start=foreign)
    with pytest.raises(AdapterMismatch):
        trainer.evaluate([(foreign, 1.0)])
    assert trainer.evaluate() == before


def test_a_batch_that_memory_does_not_hold_is_a_named_error() -> None:
    with pytest.raises(OutOfMemory, match="use a smaller batch_size"), _enough_memory():
        torch.empty(2**50)
    with pytest.raises(RuntimeError, match="shape"), _enough_memory():
        torch.zeros(2) @ torch.zeros(3, 3)


def test_about_half_of_the_pictures_are_mirrored(trainer: Trainer) -> None:
    """A mirrored picture gives the error of the picture that was mirrored before it was given to the trainer."""
    other_way = [(ImageOps.mirror(image), text) for image, text in squares(6)]
    plain, turned = (
        Trainer(tiny_model("v_prediction"), pictures, mirror=False, precision="fp32", threads=1)
        for pictures in (squares(6), other_way)
    )
    mirrored = 0
    for step in range(8):
        draw = trainer._draws(0, None, 6).step(step)
        with torch.no_grad():
            as_given, other = plain._errors(draw, plain._pictures), turned._errors(draw, turned._pictures)
            found = trainer._errors(draw, trainer._pictures)
        assert torch.allclose(found, torch.where(draw.mirrored, other, as_given), rtol=1e-4)
        assert not torch.allclose(as_given, other, rtol=1e-4)
        mirrored += int(draw.mirrored.sum())
    assert 12 <= mirrored <= 36


def test_judging_mirrors_nothing(trainer: Trainer) -> None:
    plain = Trainer(tiny_model("v_prediction"), squares(6), rank=4, mirror=False, precision="fp32", threads=1)
    assert trainer.evaluate() == pytest.approx(plain.evaluate(), rel=1e-6)
