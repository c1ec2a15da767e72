from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, EDMEulerScheduler

from edge_sdk.errors import TrainingError
from edge_sdk.training.objective import Objective
from tests.models import KINDS, Kind, tiny_model

T = torch.tensor([0, 1, 250, 500, 900, 999])


def objective(tmp_path: Path, **config: Any) -> tuple[Objective, Any]:
    """Our objective and the diffusers scheduler it was read from."""
    scheduler = DDPMScheduler(**config)
    scheduler.save_pretrained(tmp_path / "scheduler")
    return Objective.of_model(tmp_path), scheduler


@pytest.mark.parametrize(
    ("prediction", "zero_snr"), [("epsilon", False), ("v_prediction", False), ("v_prediction", True)]
)
def test_noise_and_target_are_those_of_diffusers(tmp_path: Path, prediction: str, zero_snr: bool) -> None:
    ours, theirs = objective(tmp_path, prediction_type=prediction, rescale_betas_zero_snr=zero_snr)
    # diffusers accumulates the schedule in float32, we in float64.
    rng = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, len(T), 4, 8, 8, generator=rng)
    assert torch.allclose(ours.noised(latents, noise, T), theirs.add_noise(latents, noise, T), atol=1e-5)
    expected = noise if prediction == "epsilon" else theirs.get_velocity(latents, noise, T)
    assert torch.allclose(ours.target(latents, noise, T), expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_schedule_of_a_model_is_read_whatever_sampler_it_names(kind: Kind) -> None:
    ours = Objective.of_model(tiny_model(kind))
    assert ours.timesteps == 1000
    assert ours.prediction == kind


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_min_snr_gives_the_error_of_x_the_weight_min_snr_gamma(tmp_path: Path, prediction: str) -> None:
    ours, _ = objective(tmp_path, prediction_type=prediction)
    gamma, t = 5.0, torch.arange(ours.timesteps)
    signal = ours.signal.double()
    snr = signal / (1 - signal)
    # An error d of x at fixed x_t is one of -sqrt(snr) d in epsilon and of -d / sqrt(1 - signal) in v.
    error_of_prediction = snr if prediction == "epsilon" else 1 / (1 - signal)
    assert torch.allclose(ours.weights(t, gamma).double() * error_of_prediction, snr.clamp(max=gamma), rtol=1e-4)


def test_weights_stay_finite_where_there_is_no_signal(tmp_path: Path) -> None:
    ours, _ = objective(tmp_path, prediction_type="v_prediction", rescale_betas_zero_snr=True)
    weights = ours.weights(torch.arange(1000), 5.0)
    assert weights.isfinite().all()
    assert weights[-1].item() == pytest.approx(0.0, abs=1e-6)


def test_without_gamma_all_timesteps_weigh_the_same(tmp_path: Path) -> None:
    ours, _ = objective(tmp_path)
    assert ours.weights(T, None).tolist() == [1.0] * len(T)


def test_a_model_that_predicts_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="'sample'"):
        objective(tmp_path, prediction_type="sample")


def test_a_model_of_other_noise_is_refused(tmp_path: Path) -> None:
    """A model that cannot be drawn with cannot be trained either: both use one reader."""
    EDMEulerScheduler().save_pretrained(tmp_path / "scheduler")
    with pytest.raises(TrainingError, match=r"cannot be trained.* a EDMEulerScheduler means"):
        Objective.of_model(tmp_path)
    (tmp_path / "scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(TrainingError, match="cannot be trained"):
        Objective.of_model(tmp_path)
