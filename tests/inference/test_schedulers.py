"""Every scheduler against its diffusers twin, over whole trajectories, and what the schedule refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import numpy.typing as npt
import pytest
import torch

from edge_sdk.errors import BundleError
from edge_sdk.inference.sampling.schedulers import SCHEDULERS, NoiseSchedule, Point, Start, solved
from edge_sdk.inference.sampling.schedulers.noise import CLASSES

# diffusers turns tensors into arrays the way of numpy 1, and arrays into tensors.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning"),
]
SHAPE = (2, 4, 8, 8)
TWINS = {
    "ddim": diffusers.DDIMScheduler,
    "dpm++": diffusers.DPMSolverMultistepScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "lcm": diffusers.LCMScheduler,
}
STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
LINEAR = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear", "clip_sample": False}
CONFIGS: dict[str, dict[str, Any]] = {
    "stickers": {**LINEAR, "timestep_spacing": "trailing"},
    "sd15": {**STABLE_DIFFUSION, "set_alpha_to_one": False, "steps_offset": 1},
    "leading": {**STABLE_DIFFUSION, "set_alpha_to_one": False, "steps_offset": 1, "timestep_spacing": "leading"},
    "linspace": {**STABLE_DIFFUSION, "timestep_spacing": "linspace"},
    "clipped": {**STABLE_DIFFUSION, "clip_sample": True, "clip_sample_range": 1.5, "timestep_spacing": "trailing"},
    # Preferences for sampling, which our schedulers do not share.
    "karras": {**STABLE_DIFFUSION, "timestep_spacing": "leading", "use_karras_sigmas": True},
    "short": {**LINEAR, "num_train_timesteps": 400, "timestep_spacing": "trailing"},
}


def model(x: npt.NDArray[np.float32], t: float) -> npt.NDArray[np.float32]:
    """Depends on both arguments, is not linear, and stays of size 1 as a trained model's prediction does."""
    return np.tanh(0.7 * x + np.roll(x, 1, axis=-1) - t / 500).astype(np.float32)


def at(point: Point) -> npt.NDArray[np.float32]:
    """The model's prediction at a point."""
    return model(point.x, point.t)


# Predicts v: with epsilon there would be nothing to go on at the first step.
ZERO_SNR = {**STABLE_DIFFUSION, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}


def twin_trajectory(twin: Any, noise: npt.NDArray[np.float32], steps: int) -> Iterator[npt.NDArray[np.float32]]:
    twin.set_timesteps(steps)
    return twin_steps(twin, torch.from_numpy(noise) * twin.init_noise_sigma, twin.timesteps)


def twin_steps(twin: Any, x: torch.Tensor, timesteps: torch.Tensor) -> Iterator[npt.NDArray[np.float32]]:
    generator = torch.Generator().manual_seed(5)
    options = {"generator": generator} if isinstance(twin, diffusers.LCMScheduler) else {}
    for t in timesteps:
        predicted = torch.from_numpy(model(twin.scale_model_input(x, t).numpy(), float(t)))
        x = twin.step(predicted, t, x, **options).prev_sample
        yield x.numpy()


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_equals_its_diffusers_twin(name: str, config: str, prediction: str) -> None:
    assert_equals_its_twin(name, {**CONFIGS[config], "prediction_type": prediction})


@pytest.mark.parametrize("name", SCHEDULERS)
def test_equals_its_twin_where_the_last_timestep_is_noise_alone(name: str) -> None:
    # Euler starts at sigma = 4096, of which float32 knows half a thousandth.
    assert_equals_its_twin(name, {**ZERO_SNR, "prediction_type": "v_prediction"}, tolerance=4e-3)


def assert_equals_its_twin(name: str, stated: dict[str, Any], tolerance: float = 1e-4) -> None:
    schedule = NoiseSchedule.from_json(json.dumps(stated).encode())
    noise = np.random.default_rng(0).standard_normal(SHAPE, np.float32)
    for steps in (1, 4, 7, 25):
        generator = torch.Generator().manual_seed(5)
        fresh = lambda g=generator: torch.randn(SHAPE, generator=g).numpy()  # noqa: E731
        ours = solved(SCHEDULERS[name](Start(noise), schedule, steps, fresh), at)
        theirs = twin_trajectory(TWINS[name].from_config(stated | {"use_karras_sigmas": False}), noise, steps)
        for step, (state, y) in enumerate(zip(ours, theirs, strict=True)):
            x = state.latents
            assert x.dtype == np.float32
            # Relative to the size of the latents: Euler's start at sigma = 157.
            assert np.abs(x - y).max() <= tolerance * max(1.0, float(np.abs(y).max())), (steps, step)


@pytest.mark.parametrize("strength", [0.3, 0.75, 1.0])
@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_equals_its_twin_from_a_picture(name: str, config: str, strength: float) -> None:
    """As diffusers' image-to-image pipelines do it: noise the picture to where the drawing starts, and go on there."""
    schedule = NoiseSchedule.from_json(json.dumps(CONFIGS[config]).encode())
    noise, picture = (np.random.default_rng(seed).standard_normal(SHAPE, np.float32) for seed in (0, 1))
    for steps in (4, 7, 25):
        left = int(steps * strength)
        twin = TWINS[name].from_config(CONFIGS[config] | {"use_karras_sigmas": False})
        if name == "lcm":
            twin.set_timesteps(left, strength=strength)
        else:
            twin.set_timesteps(steps)
            twin.set_begin_index(steps - left) if hasattr(twin, "set_begin_index") else None
        timesteps = twin.timesteps[-left:]
        x = twin.add_noise(torch.from_numpy(picture), torch.from_numpy(noise), timesteps[:1])
        theirs = list(twin_steps(twin, x, timesteps))
        generator = torch.Generator().manual_seed(5)
        fresh = lambda g=generator: torch.randn(SHAPE, generator=g).numpy()  # noqa: E731
        ours = list(solved(SCHEDULERS[name](Start(noise, picture, strength), schedule, steps, fresh), at))
        assert len(ours) == left
        for state, theirs_x in zip(ours, theirs, strict=True):
            assert np.abs(state.latents - theirs_x).max() <= 1e-4 * max(1.0, float(np.abs(theirs_x).max()))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_strength_that_leaves_no_step_is_refused(name: str) -> None:
    noise = np.zeros(SHAPE, np.float32)
    with pytest.raises(ValueError, match=r"4 steps at strength 0\.2 are none"):
        next(SCHEDULERS[name](Start(noise, noise, 0.2), NoiseSchedule.from_json(b"{}"), 4, lambda: noise))


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_impossible_numbers_of_steps_are_refused(name: str, steps: int) -> None:
    schedule = NoiseSchedule.from_json(b"{}")
    noise = np.zeros(SHAPE, np.float32)
    with pytest.raises(ValueError, match="steps must be between 1 and"):
        next(SCHEDULERS[name](Start(noise), schedule, steps, lambda: noise))


@pytest.mark.parametrize(
    "config",
    [
        b"",
        b"[]",
        b"\xff\xfe",
        b'{"beta_schedule": "squaredcos_cap_v2"}',
        b'{"prediction_type": "flow_prediction"}',
        b'{"trained_betas": [0.1, 0.2]}',
        b'{"rescale_betas_zero_snr": true}',
        b'{"rescale_betas_zero_snr": true, "prediction_type": "v_prediction", "num_train_timesteps": 1}',
        b'{"use_flow_sigmas": true}',
        b'{"timestep_type": "continuous"}',
        b'{"variance_type": "learned_range"}',
        b'{"thresholding": true}',
        b'{"num_train_timesteps": 0}',
        b'{"beta_end": 2.0}',
    ],
)
def test_what_cannot_be_done_is_refused(config: bytes) -> None:
    with pytest.raises(BundleError, match=r"scheduler_config\.json cannot be used"):
        NoiseSchedule.from_json(config)


FOREIGN = (
    "EDMEulerScheduler", "EDMDPMSolverMultistepScheduler", "FlowMatchEulerDiscreteScheduler", "UnCLIPScheduler",
    "CMStochasticIterativeScheduler", "CogVideoXDDIMScheduler", "ScoreSdeVeScheduler", "IPNDMScheduler", "Nobody's",
)  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_models_of_other_noise_are_refused_by_their_scheduler(name: str) -> None:
    with pytest.raises(BundleError, match=f"cannot be used: a {name} means a model that was trained with other noise"):
        NoiseSchedule.from_json(json.dumps({"_class_name": name}).encode())


def test_the_class_in_the_models_index_counts_too(tmp_path: Path) -> None:
    """diffusers makes the scheduler of that one, whatever its configuration says of itself."""
    file = tmp_path / "scheduler" / "scheduler_config.json"
    with pytest.raises(BundleError, match=r"scheduler_config\.json cannot be read \(No such.*fetch the base model"):
        NoiseSchedule.of_model(tmp_path)
    file.parent.mkdir()
    file.write_text("{}")
    (tmp_path / "model_index.json").write_text(json.dumps({"scheduler": ["diffusers", "LCMScheduler"]}))
    theirs = diffusers.LCMScheduler().alphas_cumprod.numpy()
    np.testing.assert_allclose(NoiseSchedule.of_model(tmp_path).alphas, theirs, rtol=1e-4)
    for stated in ("{}", '{"_class_name": "DDIMScheduler"}'):
        file.write_text(stated)
        (tmp_path / "model_index.json").write_text(json.dumps({"scheduler": ["diffusers", "EDMEulerScheduler"]}))
        with pytest.raises(BundleError, match="a EDMEulerScheduler means a model that was trained with other noise"):
            NoiseSchedule.of_model(tmp_path)


# DPMSolverSDEScheduler cannot be made without torchsde.
@pytest.mark.parametrize("name", sorted(set(CLASSES) - {"DPMSolverSDEScheduler"}))
def test_the_schedule_is_that_of_the_class_which_the_file_names(name: str) -> None:
    """Also where the file leaves the betas out, whose defaults differ between classes."""
    for stated in ({}, {"beta_schedule": "scaled_linear", "beta_start": 0.001}):
        theirs = getattr(diffusers, name)(**stated)
        schedule = NoiseSchedule.from_json(json.dumps({"_class_name": name, **stated}).encode())
        np.testing.assert_allclose(schedule.alphas, theirs.alphas_cumprod.numpy(), rtol=1e-4)
