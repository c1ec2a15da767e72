"""A trained file elsewhere: diffusers and PEFT load it, and diffusers draws with it what our Generator draws."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file

from edge_sdk import adapter as adapters
from edge_sdk.adapter import Adapter
from edge_sdk.inference import Generator
from edge_sdk.training import Trainer
from tests.models import KINDS, Kind, tiny_bundle, tiny_model
from tests.training.samples import squares

PROMPT, NEGATIVE, STEPS, GUIDANCE = "a red square", "a blue circle", 6, 4.0


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


@pytest.fixture(scope="module")
def trained(kind: Kind) -> Adapter:
    trainer = Trainer(tiny_model(kind), squares(6), rank=4, learning_rate=3e-3, precision="fp32", threads=1)
    return trainer.train(steps=20).adapter


def test_diffusers_draws_what_our_generator_draws(kind: Kind, trained: Adapter, tmp_path: Path) -> None:
    adapters.save(trained, tmp_path / "pytorch_lora_weights.safetensors")
    noise = np.random.default_rng(0).standard_normal((1, 4, 8, 8), np.float32)

    def theirs(pipe: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
        drawn = pipe(
            PROMPT,
            negative_prompt=NEGATIVE,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            latents=torch.from_numpy(noise.copy()),
            output_type="latent",
        )
        latents: np.ndarray[Any, np.dtype[np.float32]] = drawn.images.numpy()
        return latents

    pipe = DiffusionPipeline.from_pretrained(tiny_model(kind))
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    plain = theirs(pipe)
    pipe.load_lora_weights(tmp_path)
    expected = theirs(pipe)

    latents = [noise]
    generator = Generator.load(tiny_bundle(kind), threads=1)
    generator.add_adapter("leaf", tmp_path / "pytorch_lora_weights.safetensors")
    generator.generate(
        PROMPT,
        negative_prompt=NEGATIVE,
        steps=STEPS,
        guidance=GUIDANCE,
        scheduler="ddim",
        adapters={"leaf": 1.0},
        latents=noise,
        on_step=lambda step, steps, x: latents.append(x),
    )
    assert np.abs(latents[-1] - expected).max() < 1e-2
    assert np.abs(plain - expected).max() > 0.1, "the adapter changes what is drawn"


def test_peft_loads_the_file(kind: Kind, trained: Adapter, tmp_path: Path) -> None:
    path = tmp_path / "leaf.safetensors"
    adapters.save(trained, path)
    with safe_open(path, "pt") as file:
        metadata = json.loads(file.metadata()["lora_adapter_metadata"])
    unet = UNet2DConditionModel.from_pretrained(tiny_model(kind) / "unet")
    config = LoraConfig(**{key.removeprefix("unet."): value for key, value in metadata.items()})
    tuned = get_peft_model(unet, config)
    state = {f"base_model.model.{key.removeprefix('unet.')}": value for key, value in load_file(path).items()}
    assert not set_peft_model_state_dict(tuned, state).unexpected_keys

    layer = next(iter(trained.layers))
    before = UNet2DConditionModel.from_pretrained(tiny_model(kind) / "unet").get_submodule(layer.removeprefix("unet."))
    merged = tuned.merge_and_unload().get_submodule(layer.removeprefix("unet."))
    product = trained.layers[layer].b @ trained.layers[layer].a
    assert np.allclose((merged.weight - before.weight).detach().numpy(), product, atol=1e-6)
