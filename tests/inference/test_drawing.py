"""Promises of `Generator` beyond one prompt: other sizes, several at once, from pictures, decoded in tiles."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from edge_sdk.errors import BundleError, SizeUnsupported
from edge_sdk.inference import Generator
from edge_sdk.inference.runtime.memory import PROCESS, working_set
from edge_sdk.inference.runtime.stages import Stages
from edge_sdk.inference.sampling.latents import decode_in_tiles, to_pixels
from tests.models import LATENT_SHAPE, tiny_bundle

PROMPT = "a red fox, flat icon"


@functools.cache
def generator() -> Generator:
    return Generator.load(tiny_bundle(), threads=1)


def difference(x: list[Image.Image], y: list[Image.Image]) -> float:
    pairs = zip(x, y, strict=True)
    return max(float(np.abs(np.asarray(a, np.float32) - np.asarray(b, np.float32)).max()) / 255 for a, b in pairs)


def stripes(width: int, height: int) -> Image.Image:
    row = (np.arange(width) // 8 % 2 * 255).astype(np.uint8)
    return Image.fromarray(np.broadcast_to(row[None, :, None], (height, width, 3)).copy())


# --- sizes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "drawn"), [(None, (32, 32)), (48, (48, 48)), ((56, 24), (56, 24)), ((8, 64), (8, 64))]
)
def test_pictures_of_any_size_that_fits(size: Any, drawn: tuple[int, int]) -> None:
    pictures = generator().generate(PROMPT, seed=1, steps=1, size=size, count=2)
    assert [picture.size for picture in pictures] == [drawn, drawn]


@pytest.mark.parametrize(
    ("size", "near"), [(33, "32 x 32"), ((36, 47), "32 x 48"), ((0, 32), "8 x 32"), ((32, -8), "32 x 8"), (1, "8 x 8")]
)
def test_other_sizes_are_refused_and_a_near_one_is_named(size: Any, near: str) -> None:
    with pytest.raises(SizeUnsupported, match=f"multiples of 8 pixels, not .*: ask for {near}"):
        generator().generate(PROMPT, steps=1, size=size)


# --- several at once ------------------------------------------------------------------------------------------------


def test_several_prompts_are_drawn_as_each_alone() -> None:
    draw = functools.partial(generator().generate, steps=3)
    both = draw(["a red fox", "the moon"], negative_prompt=["", "a banana"], seed=[3, 9])
    assert difference(both[:1], draw("a red fox", seed=3)) < 1e-2
    assert difference(both[1:], draw("the moon", negative_prompt="a banana", seed=9)) < 1e-2
    assert difference(both[1:], draw("the moon", seed=9)) > 1e-2


def test_count_is_for_each_prompt() -> None:
    four = generator().generate(["a red fox", "the moon"], seed=[1, 2, 1, 2], steps=2, count=2)
    alone = generator().generate("the moon", seed=[1, 2], steps=2, count=2)
    assert len(four) == 4
    assert difference(four[2:], alone) < 1e-2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": [1]}, "2 pictures and 1 seeds"),
        ({"seed": [1, -1]}, "seed is not negative"),
        ({"negative_prompt": ["", "", ""]}, "2 prompts and 3 negative ones"),
    ],
)
def test_as_many_of_each_as_there_are_prompts(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generator().generate(["a red fox", "the moon"], steps=1, **arguments)
    with pytest.raises(ValueError, match="0 prompts"):
        generator().generate([], steps=1)


# --- from a picture -------------------------------------------------------------------------------------------------


def test_little_strength_leaves_little_to_the_noise() -> None:
    def last_latents(seed: int, strength: float) -> npt.NDArray[np.float32]:
        seen: list[npt.NDArray[np.float32]] = []
        generator().generate(
            PROMPT, seed=seed, steps=50, guidance=1.0, picture=stripes(32, 32), strength=strength,
            on_step=lambda step, of, latents: seen.append(latents),
        )  # fmt: skip
        return seen[-1]

    def difference_between_seeds(strength: float) -> float:
        return float(np.abs(last_latents(1, strength) - last_latents(2, strength)).mean())

    assert difference_between_seeds(0.02) < 0.1 * difference_between_seeds(1.0)


def test_steps_are_as_many_as_the_strength_asks_for() -> None:
    seen: list[tuple[int, int]] = []
    generator().generate(
        PROMPT, steps=8, picture=stripes(32, 32), strength=0.5, on_step=lambda step, of, _: seen.append((step, of))
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(("given", "drawn"), [((32, 32), (32, 32)), ((640, 160), (64, 16)), ((30, 61), (24, 48))])
def test_a_picture_decides_the_proportions(given: tuple[int, int], drawn: tuple[int, int]) -> None:
    pictures = generator().generate(PROMPT, seed=1, steps=2, picture=stripes(*given))
    assert [picture.size for picture in pictures] == [drawn]


def test_a_picture_is_scaled_to_cover_and_cut() -> None:
    found = to_pixels(stripes(64, 16), (16, 16))
    assert found.shape == (1, 3, 16, 16)
    np.testing.assert_array_equal(found[0, 0, 0], np.repeat([1.0, -1.0], 8))


@pytest.mark.parametrize("strength", [0.0, -0.1, 1.1, float("nan")])
def test_strengths_that_make_no_sense(strength: float) -> None:
    with pytest.raises(ValueError, match="strength must be above 0 and at most 1"):
        generator().generate(PROMPT, picture=stripes(32, 32), strength=strength)


# --- decoding -------------------------------------------------------------------------------------------------------


def enlarge(latents: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A decoder that sees one latent at a time: in tiles it gives exactly what it gives as a whole."""
    return latents[:, :3].repeat(4, axis=2).repeat(4, axis=3)


@pytest.mark.parametrize("tile", [8, 12, 64])
@pytest.mark.parametrize("sides", [(8, 8), (9, 23), (40, 8), (33, 17)])
def test_tiles_cover_a_picture_and_blend(sides: tuple[int, int], tile: int) -> None:
    latents = np.random.default_rng(0).standard_normal((2, 4, *sides)).astype(np.float32)
    seen: list[tuple[int, ...]] = []

    def decode(part: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        seen.append(part.shape)
        return enlarge(part)

    found = decode_in_tiles(decode, latents, tile, factor=4)
    np.testing.assert_allclose(found, enlarge(latents), atol=1e-5)
    assert max(max(shape[2:]) for shape in seen) <= tile


def test_a_tiled_picture_is_nearly_the_same_and_has_no_seams() -> None:
    draw = functools.partial(generator().generate, PROMPT, seed=1, steps=2, size=(96, 64))
    whole, tiled = (np.asarray(draw(tile=tile)[0], np.float32) / 255 for tile in (None, 32))
    assert np.abs(whole - tiled).mean() < 0.1
    jump = np.abs(np.diff(tiled, axis=1)).mean(axis=(0, 2))
    assert jump.max() < 3 * np.abs(np.diff(whole, axis=1)).mean(axis=(0, 2)).max()


def test_a_tile_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32 pixels"):
        generator().generate(PROMPT, steps=1, tile=16)


def test_what_a_bundle_has_not_got_is_named() -> None:
    with pytest.raises(BundleError, match="no preview decoder: export it with --preview"):
        generator().generate(PROMPT, steps=1, decoder="quick")
    with pytest.raises(BundleError, match="no preview decoder"):
        generator().preview(np.zeros((1, *LATENT_SHAPE), np.float32))
    with pytest.raises(ValueError, match="choose full or quick"):
        generator().generate(PROMPT, steps=1, decoder="best")  # type: ignore[arg-type]


# --- memory ---------------------------------------------------------------------------------------------------------


class Watched(Stages):
    """Stages that note the shape of what each run was fed."""

    def __init__(self, memory_limit: int | None) -> None:
        super().__init__(generator().bundle, threads=1, memory_limit=memory_limit)
        self.seen: dict[str, list[tuple[int, ...]]] = {}

    def run(self, stage: str, outputs: Sequence[str], feed: Mapping[str, npt.NDArray[Any]]) -> list[Any]:
        first = next(iter(feed.values()))
        self.seen.setdefault(stage, []).append(first.shape)
        return super().run(stage, outputs, feed)


def test_little_memory_draws_the_same_in_smaller_parts() -> None:
    """Three guided pictures are six rows for the UNet; there is room for one row at a time, and for half a picture."""
    latents = np.zeros((1, 4, 16, 16), np.float32)
    weights = max(path.stat().st_size for path in generator().bundle.folder.rglob("model.onnx"))
    row = working_set("unet", {"sample": latents})
    room = PROCESS + 2 * weights + row + row // 2
    assert room < PROCESS + working_set("vae_decoder", {"latent_sample": latents})
    ample, short = Watched(None), Watched(room)
    options: dict[str, Any] = {"seed": 1, "steps": 2, "count": 3, "size": 64, "negative_prompt": "the moon"}
    wanted = Generator(generator().bundle, stages=ample).generate(PROMPT, **options)
    drawn = Generator(generator().bundle, stages=short).generate(PROMPT, **options)
    assert {shape[0] for shape in ample.seen["unet"]} == {6}
    assert {shape[0] for shape in short.seen["unet"]} == {1}
    assert ample.seen["vae_decoder"] == [(3, 4, 16, 16)]
    assert all(shape[0] == 1 and max(shape[2:]) < 16 for shape in short.seen["vae_decoder"])
    tiled = Generator(generator().bundle, stages=ample).generate(
        PROMPT, **options, tile=4 * max(short.seen["vae_decoder"][0][2:])
    )
    assert difference(drawn, tiled) < 1e-2
    assert difference(drawn, wanted) < 1
