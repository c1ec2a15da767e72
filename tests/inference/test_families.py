"""Every family of base models draws what diffusers draws: from words and from pictures, with and without an adapter."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from edge_sdk import adapter as adapters
from edge_sdk.adapter import Adapter, Factors
from edge_sdk.errors import AdapterMismatch
from edge_sdk.inference import Generator
from edge_sdk.inference.sampling.latents import to_pixels
from tests.models import FAMILIES, Kind, tiny_bundle, tiny_model

pytestmark = [
    # diffusers turns tensors into arrays the way of numpy 1.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]
PROMPT, NEGATIVE = "a red fox, flat icon", "the moon"
# Schedulers that our default ones are twins of; LCMs draw with their own noise, which a single step leaves out.
STEPS = {"lcm": 1}
TWINS = {"sd2": "dpm++", "bk_sdm": "dpm++", "turbo": "euler", "lcm": "lcm", "xl": "euler"}
CLASSES: dict[str, Any] = {
    "dpm++": diffusers.DPMSolverMultistepScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "lcm": diffusers.LCMScheduler,
}
FROM_PICTURES: dict[str, Any] = {
    "lcm": diffusers.LatentConsistencyModelImg2ImgPipeline,
    "xl": diffusers.StableDiffusionXLImg2ImgPipeline,
}
OBLONG = (40, 24)
Pixels = npt.NDArray[np.float32]


@functools.cache
def generator(kind: Kind) -> Generator:
    return Generator.load(tiny_bundle(kind), threads=1)


def torch_pipeline(kind: Kind, adapter: Path | None = None, image: bool = False) -> Any:
    pipe: Any = diffusers.DiffusionPipeline.from_pretrained(tiny_model(kind))
    if image:
        own: Any = FROM_PICTURES.get(kind, diffusers.StableDiffusionImg2ImgPipeline)
        parts = {name: part for name, part in pipe.components.items() if name != "image_encoder"}
        pipe = own(**parts, **({} if kind == "xl" else {"requires_safety_checker": False}))
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = CLASSES[TWINS[kind]].from_config(pipe.scheduler.config)
    if adapter is not None:
        pipe.load_lora_weights(adapter.parent, weight_name=adapter.name)
    return pipe


def an_adapter(kind: Kind, path: Path) -> Adapter:
    rng = np.random.default_rng(1)
    layers = {
        name: Factors(
            rng.standard_normal((4, inputs), np.float32) / np.float32(np.sqrt(inputs)),
            rng.standard_normal((outputs, 4), np.float32) * np.float32(0.35),
        )
        for name, (inputs, outputs, _) in generator(kind).slots.items()
    }
    adapter = Adapter(layers, base_id=generator(kind).base_id)
    adapters.save(adapter, path)
    return adapter


def noise(size: tuple[int, int] = (32, 32), seed: int = 0) -> Pixels:
    return torch.randn((1, 4, size[1] // 4, size[0] // 4), generator=torch.Generator().manual_seed(seed)).numpy()


def pixels(pictures: list[Image.Image]) -> Pixels:
    return np.stack([np.asarray(picture, np.float32) / 255 for picture in pictures])


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("kind", FAMILIES)
def test_draws_what_diffusers_draws(kind: Kind, guidance: float, tmp_path: Path) -> None:
    file = tmp_path / "adapter.safetensors"
    adapter = an_adapter(kind, file)
    steps = STEPS.get(kind, 4)
    options: dict[str, Any] = {} if kind == "lcm" else {"negative_prompt": NEGATIVE}
    for used, size in ((None, (32, 32)), (file, OBLONG)):
        theirs = torch_pipeline(kind, used)(
            PROMPT, num_inference_steps=steps, guidance_scale=guidance, latents=torch.from_numpy(noise(size)),
            width=size[0], height=size[1], output_type="np", **options,
        ).images  # fmt: skip
        ours = generator(kind).generate(
            PROMPT, steps=steps, guidance=guidance, scheduler=TWINS[kind], latents=noise(size), size=size,
            adapters=[(adapter, 1.0)] if used else [], **options,
        )  # fmt: skip
        assert theirs.std() > 0.02
        assert ours[0].size == size
        assert np.abs(pixels(ours) - theirs).max() < 1e-2


@pytest.mark.parametrize("kind", FAMILIES)
def test_draws_from_a_picture_what_diffusers_draws(kind: Kind) -> None:
    rng = np.random.default_rng(3)
    picture = Image.fromarray(rng.integers(0, 255, (24, 40, 3), np.uint8))
    pipe = torch_pipeline(kind, image=True)
    with torch.no_grad():
        mean = pipe.vae.encode(torch.from_numpy(to_pixels(picture, OBLONG))).latent_dist.mean
    # diffusers takes latents for the picture as they are, and draws its noise from the generator.
    theirs = pipe(
        PROMPT, image=mean * pipe.vae.config.scaling_factor, strength=0.6, guidance_scale=4.0, output_type="np",
        # Of 2 LCM steps at this strength we do 1; diffusers would spread 2 over what is left.
        num_inference_steps=1 if kind == "lcm" else 5, generator=torch.Generator().manual_seed(0),
        **({"width": OBLONG[0], "height": OBLONG[1], "target_size": OBLONG[::-1]} if kind == "xl" else {}),
    ).images  # fmt: skip
    ours = generator(kind).generate(
        PROMPT, picture=picture, size=OBLONG, strength=0.6, guidance=4.0, steps=2 if kind == "lcm" else 5,
        scheduler=TWINS[kind], latents=noise(OBLONG),
    )  # fmt: skip
    assert np.abs(pixels(ours) - theirs).max() < 1e-2


@pytest.mark.parametrize("kind", FAMILIES)
def test_adapters_switch_and_only_those_of_this_base_model(kind: Kind, tmp_path: Path) -> None:
    adapter = an_adapter(kind, tmp_path / "adapter.safetensors")
    draw = functools.partial(generator(kind).generate, PROMPT, seed=1, steps=1)
    base, changed = draw(), draw(adapters=[(adapter, 1.0)])
    assert np.abs(pixels(base) - pixels(changed)).max() > 2e-2
    assert draw() == base
    other: Kind = "xl" if kind != "xl" else "sd2"
    with pytest.raises(AdapterMismatch):
        generator(other).generate(PROMPT, adapters=[(Adapter(adapter.layers), 1.0)])


def test_bundles_know_how_their_base_models_want_to_draw() -> None:
    defaults = {kind: generator(kind).bundle.index.defaults for kind in FAMILIES}
    assert {kind: (d.steps, d.guidance, d.scheduler) for kind, d in defaults.items()} == {
        "sd2": (25, 5.0, "dpm++"),
        "bk_sdm": (25, 5.0, "dpm++"),
        "turbo": (4, 1.0, "euler"),
        "lcm": (4, 8.0, "lcm"),
        "xl": (25, 5.0, "dpm++"),
    }
    steps: list[tuple[int, int]] = []
    drawn = generator("turbo").generate(PROMPT, seed=1, on_step=lambda step, of, _: steps.append((step, of)))
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert drawn == generator("turbo").generate(PROMPT, seed=1, steps=4, guidance=1.0, scheduler="euler")


def test_an_empty_negative_prompt_is_nothing_to_sdxl() -> None:
    """Its pipelines embed no negative prompt as zeros, and a given one by its words."""
    pipe = torch_pipeline("xl")
    options: dict[str, Any] = {"num_inference_steps": 3, "guidance_scale": 6.0, "output_type": "np"}
    theirs = pipe(PROMPT, latents=torch.from_numpy(noise()), **options).images
    ours = generator("xl").generate(PROMPT, steps=3, guidance=6.0, scheduler="euler", latents=noise())
    assert np.abs(pixels(ours) - theirs).max() < 1e-2


@pytest.mark.parametrize("kind", FAMILIES)
def test_latents_can_be_looked_at_on_the_way(kind: Kind) -> None:
    own, seen = generator(kind), []

    def look(step: int, total: int, latents: npt.NDArray[np.float32]) -> None:
        seen.extend(own.preview(latents))

    quick = own.generate(PROMPT, seed=1, steps=2, decoder="quick", on_step=look)
    assert [picture.size for picture in seen] == [(32, 32)] * 2
    assert quick == seen[-1:]
    assert quick != own.generate(PROMPT, seed=1, steps=2)
