"""The device's pictures against diffusers', and everything else that `Generator` promises."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import diffusers
import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from edge_sdk import adapter as adapters
from edge_sdk.adapter import Adapter, Factors
from edge_sdk.errors import (
    AdapterError,
    AdapterFormatError,
    AdapterMismatch,
    AdapterValueError,
    BundleCorrupt,
    BundleError,
    ImpastoError,
    MemoryLimitTooSmall,
    PromptError,
)
from edge_sdk.inference import Bundle, Generator, PromptTruncated
from edge_sdk.inference.bundle.index import write_index
from edge_sdk.inference.runtime.memory import PROCESS, working_set
from tests.models import KINDS, LATENT_SHAPE, Kind, tiny_bundle, tiny_model

pytestmark = [
    # diffusers turns tensors into arrays the way of numpy 1.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]
TWINS = {
    "ddim": diffusers.DDIMScheduler,
    "dpm++": diffusers.DPMSolverMultistepScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
}
PROMPT, NEGATIVE = "a red fox, flat icon", "the moon"
Pixels = npt.NDArray[np.float32]


@functools.cache
def generator(kind: Kind = "v_prediction") -> Generator:
    return Generator.load(tiny_bundle(kind), threads=1)


def random_adapter(
    seed: int, ranks: tuple[int, ...] = (4, 2, 8), kind: Kind = "v_prediction", every: int = 1
) -> Adapter:
    """On every n-th slot; changes the picture, but does not saturate the attention.

    A network of random weights with an adapter four times stronger is chaotic: rounding errors of 1e-6 become 0.3.
    """
    rng = np.random.default_rng(seed)
    layers = {}
    for number, (name, (inputs, outputs, _)) in enumerate(sorted(generator(kind).slots.items())):
        if number % every == 0:
            rank = ranks[number % len(ranks)]
            a = rng.standard_normal((rank, inputs), np.float32) / np.sqrt(inputs)
            b = 0.7 * rng.standard_normal((outputs, rank), np.float32) / np.sqrt(rank)
            layers[name] = Factors(a.astype(np.float32), b.astype(np.float32))
    return Adapter(layers, base_id=generator(kind).base_id)


def start(seed: int = 0, count: int = 1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, *LATENT_SHAPE), np.float32)


def pixels(pictures: list[Image.Image]) -> Pixels:
    return np.stack([np.asarray(picture, np.float32) / 255 for picture in pictures])


def difference(x: list[Image.Image], y: list[Image.Image]) -> float:
    return float(np.abs(pixels(x) - pixels(y)).max())


def torch_picture(kind: Kind, scheduler: str, guidance: float, adapter: Path | None, steps: int) -> Pixels:
    pipe: Any = StableDiffusionPipeline.from_pretrained(tiny_model(kind))
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = TWINS[scheduler].from_config(pipe.scheduler.config)
    if adapter is not None:
        pipe.load_lora_weights(adapter.parent, weight_name=adapter.name)
    images: Pixels = pipe(
        PROMPT,
        negative_prompt=NEGATIVE,
        num_inference_steps=steps,
        guidance_scale=guidance,
        latents=torch.from_numpy(start()),
        output_type="np",
    ).images
    return images


# --- the same picture as diffusers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("guidance", [1.0, 5.0])
@pytest.mark.parametrize("scheduler", TWINS)
@pytest.mark.parametrize("kind", KINDS)
def test_draws_what_diffusers_draws(kind: Kind, scheduler: str, guidance: float) -> None:
    ours = generator(kind).generate(
        PROMPT, negative_prompt=NEGATIVE, steps=8, guidance=guidance, scheduler=scheduler, latents=start()
    )
    theirs = torch_picture(kind, scheduler, guidance, None, steps=8)
    assert theirs.std() > 0.02
    assert np.abs(pixels(ours) - theirs).max() < 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_draws_what_diffusers_draws_with_an_adapter(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / "adapter.safetensors"
    adapters.save(random_adapter(1, kind=kind), path)
    generator(kind).add_adapter("mine", path)
    options: dict[str, Any] = {"negative_prompt": NEGATIVE, "steps": 8, "latents": start()}
    ours = generator(kind).generate(PROMPT, adapters={"mine": 1.0}, **options)
    theirs = torch_picture(kind, "dpm++", 5.0, path, steps=8)
    assert difference(ours, generator(kind).generate(PROMPT, **options)) > 5e-2
    assert np.abs(pixels(ours) - theirs).max() < 1e-2


# --- adapters -------------------------------------------------------------------------------------------------------


def test_adapters_switch_from_call_to_call() -> None:
    draw = functools.partial(generator().generate, PROMPT, steps=4, latents=start())
    first, second = random_adapter(1), random_adapter(2, every=3)
    base, one, two = draw(), draw(adapters=[(first, 1.0)]), draw(adapters=[(second, 1.0)])
    assert difference(base, one) > 5e-2
    assert difference(one, two) > 5e-2
    assert draw() == base
    assert draw(adapters=[(first, 1.0)]) == one
    assert draw(adapters=[(first, 0.0)]) == base


def test_a_mix_is_the_sum_of_its_adapters() -> None:
    draw = functools.partial(generator().generate, PROMPT, steps=4, latents=start())
    first, second = random_adapter(1), random_adapter(2, ranks=(1, 6), every=2)
    mix = [(first, 0.7), (second, -0.4)]
    summed = {}
    for name, factors in first.layers.items():
        delta = 0.7 * factors.b @ factors.a
        if name in second.layers:
            delta = delta - 0.4 * second.layers[name].b @ second.layers[name].a
        # The sum as an adapter of full rank.
        summed[name] = Factors(np.eye(factors.in_features, dtype=np.float32), delta.astype(np.float32))
    assert difference(draw(adapters=mix), draw(adapters=[(Adapter(summed), 1.0)])) < 1e-2
    assert difference(draw(adapters=mix), draw(adapters=[(first, 0.7)])) > 5e-2
    assert difference(draw(adapters=[(first, 0.5), (first, 0.5)]), draw(adapters=[(first, 1.0)])) < 1e-2


def test_adapters_by_name(tmp_path: Path) -> None:
    own = Generator(generator().bundle, threads=1)
    own.add_adapter("cluster", random_adapter(1))
    assert list(own.adapters) == ["cluster"]
    drawn = own.generate(PROMPT, seed=1, steps=2, adapters={"cluster": 0.5})
    assert drawn == own.generate(PROMPT, seed=1, steps=2, adapters=[(random_adapter(1), 0.5)])
    with pytest.raises(AdapterError, match=r"no adapter 'leaf' \(known: cluster\)"):
        own.generate(PROMPT, adapters={"cluster": 0.5, "leaf": 1.0})
    own.remove_adapter("cluster")
    own.remove_adapter("cluster")
    assert not own.adapters


def test_adapters_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    good = random_adapter(1)
    name, factors = next(iter(good.layers.items()))
    nan = Factors(np.full_like(factors.a, np.nan), factors.b)
    wide = Factors(np.ones((2, factors.in_features + 1), np.float32), factors.b[:, :2].copy())
    refused: dict[Any, type[ImpastoError]] = {
        Adapter(good.layers, base_id="0" * 64): AdapterMismatch,
        Adapter({"unet.other.to_q": factors}): AdapterMismatch,
        Adapter({name: wide}): AdapterMismatch,
        Adapter({name: nan}): AdapterValueError,
    }
    own = Generator(generator().bundle, threads=1)
    for adapter, error in refused.items():
        with pytest.raises(error):
            own.add_adapter("bad", adapter)
        with pytest.raises(error):
            own.generate(PROMPT, adapters=[(adapter, 1.0)])
    (tmp_path / "adapter.safetensors").write_bytes(b"no adapter")
    with pytest.raises(AdapterFormatError):
        own.add_adapter("bad", tmp_path / "adapter.safetensors")
    assert not own.adapters


# --- seeds, steps, prompts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheduler", ["ddim", "dpm++", "euler", "lcm"])
def test_the_same_seed_draws_the_same_picture(scheduler: str) -> None:
    draw = functools.partial(generator().generate, PROMPT, steps=4, scheduler=scheduler)
    again = Generator.load(tiny_bundle(), threads=1)
    assert draw(seed=7) == draw(seed=7) == again.generate(PROMPT, steps=4, scheduler=scheduler, seed=7)
    assert draw(seed=7) != draw(seed=8)
    assert draw() != draw()


@pytest.mark.parametrize("scheduler", ["dpm++", "lcm"])
def test_a_larger_count_only_adds_pictures(scheduler: str) -> None:
    draw = functools.partial(generator().generate, PROMPT, steps=4, scheduler=scheduler, seed=7)
    three = draw(count=3)
    assert [picture.size for picture in three] == [(32, 32)] * 3
    assert difference(three[:1], draw()) < 1e-2
    assert difference(three[:1], three[1:2]) > 1e-2


def test_on_step_sees_every_step_and_can_cancel() -> None:
    seen: list[tuple[int, int, tuple[int, ...]]] = []

    def note(step: int, total: int, latents: npt.NDArray[np.float32]) -> bool:
        seen.append((step, total, latents.shape))
        return step < 3

    assert generator().generate(PROMPT, steps=5, on_step=note, count=2) == []
    assert seen == [(step, 5, (2, *LATENT_SHAPE)) for step in (1, 2, 3)]
    seen.clear()
    # Returning nothing goes on.
    assert len(generator().generate(PROMPT, steps=5, on_step=lambda *step: seen.append(step))) == 1
    assert len(seen) == 5


def test_a_long_prompt_is_cut_and_says_so() -> None:
    long = "a red fox " + "and a lazy dog " * 20
    with pytest.warns(PromptTruncated, match="Not used: 'dog and a lazy") as caught:
        picture = generator().generate(long, seed=1, steps=2)
    assert [str(warning.filename) for warning in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PromptTruncated)
        assert picture == generator().generate(long + " and a banana", seed=1, steps=2)


def test_prompts_are_encoded_as_torch_does() -> None:
    texts = ["", "a red fox", "the moon at night"]
    pipe: Any = StableDiffusionPipeline.from_pretrained(tiny_model())
    ids = pipe.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        expected = pipe.text_encoder(ids).last_hidden_state.numpy()
    hidden, embedding = generator().encode_prompt(texts)
    assert embedding.dtype == hidden.dtype == np.float32
    np.testing.assert_allclose(hidden, expected, atol=1e-5)
    for row, length in enumerate([2, 5, 6]):
        np.testing.assert_allclose(embedding[row], expected[row, :length].mean(axis=0), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scheduler": "magic"}, "choose one of ddim, dpm"),
        ({"steps": 0}, "steps must be between 1 and 1000"),
        ({"scheduler": "lcm", "steps": 51}, "steps must be between 1 and 50"),
        ({"count": 0}, "count must be at least 1"),
        ({"seed": -1}, "seed is not negative"),
        ({"guidance": float("nan")}, "guidance must be a finite number"),
        ({"latents": np.zeros((1, 4, 9, 8), np.float32)}, r"of shape \(1, 4, 8, 8\)"),
        ({"latents": np.full((1, *LATENT_SHAPE), np.nan, np.float32)}, "finite"),
    ],
)
def test_arguments_that_make_no_sense(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generator().generate(PROMPT, **arguments)


def test_weights_must_be_finite() -> None:
    with pytest.raises(ValueError, match="weight of an adapter"):
        generator().generate(PROMPT, adapters=[(random_adapter(1), float("inf"))])


@pytest.mark.parametrize("prompt", [None, 3, "half a fox \ud83e"])
def test_what_is_no_text_is_refused(prompt: Any) -> None:
    with pytest.raises(PromptError):
        generator().generate(prompt)
    with pytest.raises(PromptError):
        generator().encode_prompt([prompt])


def test_a_drawing_that_diverges_says_so() -> None:
    with np.errstate(all="ignore"), pytest.raises(ImpastoError, match="diverged"):
        generator().generate(PROMPT, steps=3, guidance=1e38)


@pytest.mark.parametrize(
    "changed", [{"latent_channels": 5}, {"guidance_dim": 16}, {"condition_outputs": ("other",)}], ids=str
)
def test_an_index_that_speaks_of_other_graphs_is_a_corrupt_bundle(changed: dict[str, Any], tmp_path: Path) -> None:
    """The index itself has no hash: an edit is found out here."""
    bundle = Bundle.load(tiny_bundle())
    edited = Bundle(bundle.folder, msgspec.structs.replace(bundle.index, **changed))
    with pytest.raises(BundleCorrupt, match=r"model\.onnx cannot be run with what impasto\.json says of it"):
        Generator(edited, threads=1).generate(PROMPT, steps=1)


@pytest.mark.skipif(sys.platform != "linux", reason="limits its own memory")
def test_a_device_without_the_memory_says_so() -> None:
    program = """
import resource, sys
from edge_sdk import Generator
from edge_sdk.errors import OutOfMemory

generator = Generator.load(sys.argv[1], threads=1)
generator.generate("a fox", steps=1)
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 100_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    generator.generate("a fox", steps=1, size=2048)
except OutOfMemory as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tiny_bundle())], capture_output=True, text=True, timeout=240
    )
    assert "did not get the memory that it needs: draw smaller or fewer pictures at once" in done.stdout, done.stderr


def test_a_scheduler_that_cannot_be_imitated_is_refused(tmp_path: Path) -> None:
    bundle = Bundle.load(tiny_bundle())
    write_index(tmp_path, bundle.index)
    for name in bundle.index.files:
        target = tmp_path / name
        target.parent.mkdir(exist_ok=True, parents=True)
        target.symlink_to(bundle.path(name))
    config = json.loads(bundle.path("scheduler/scheduler_config.json").read_text("utf-8"))
    (tmp_path / "scheduler/scheduler_config.json").unlink()
    (tmp_path / "scheduler/scheduler_config.json").write_text(json.dumps({**config, "use_flow_sigmas": True}))
    with pytest.raises(BundleError, match="flow"):
        Generator.load(tmp_path, verify=False)


def test_drawing_imports_no_torch(tmp_path: Path) -> None:
    adapters.save(random_adapter(1), tmp_path / "adapter.safetensors")
    script = f"""
import sys
import edge_sdk
import edge_sdk.inference
generator = edge_sdk.Generator.load({str(tiny_bundle())!r})
generator.add_adapter("leaf", {str(tmp_path / "adapter.safetensors")!r})
generator.generate("a red fox", seed=1, steps=2, adapters={{"leaf": 0.5}})[0].save({str(tmp_path / "fox.png")!r})
loaded = {{name.split(".")[0] for name in sys.modules}}
heavy = loaded & {{"torch", "diffusers", "transformers", "peft", "onnx", "optimum"}}
sys.exit(f"imported {{heavy}}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    with Image.open(tmp_path / "fox.png") as picture:
        assert picture.size == (32, 32)


# --- the device -----------------------------------------------------------------------------------------------------


def test_a_memory_limit_draws_the_same_picture() -> None:
    # Too little for the decoder beside anything else.
    limit = PROCESS + working_set("vae_decoder", {"latent_sample": start()}) + 10_000_000
    with Generator.load(tiny_bundle(), threads=1, memory_limit=limit) as own:
        assert own.generate(PROMPT, seed=7, steps=2) == generator().generate(PROMPT, seed=7, steps=2)
        assert own.generate(PROMPT, seed=7, steps=2) == generator().generate(PROMPT, seed=7, steps=2)
    with pytest.raises(BundleError, match="closed"):
        own.generate(PROMPT)
    with pytest.raises(MemoryLimitTooSmall, match="raise the limit"):
        Generator.load(tiny_bundle(), memory_limit="1MB")


def test_every_back_end_that_works_here_draws_the_picture() -> None:
    draw = functools.partial(Generator.generate, prompt=PROMPT, seed=7, steps=2, adapters=[(random_adapter(1), 1.0)])
    with Generator.load(tiny_bundle(), threads=1, backend="openvino", precision="f32") as own:
        assert difference(draw(own), draw(generator())) < 1e-2
    with Generator.load(tiny_bundle(), threads=1, backend="auto") as own:
        assert len(draw(own)) == 1
