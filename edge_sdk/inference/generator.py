"""Generator: from prompts to pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from edge_sdk import adapter as adapters_
from edge_sdk.adapter import Adapter, Shape
from edge_sdk.errors import AdapterError, BundleError, SizeUnsupported
from edge_sdk.inference.adapters import HYBRIDS, Mix
from edge_sdk.inference.bundle import Bundle
from edge_sdk.inference.picture_encoder import PictureEncoder
from edge_sdk.inference.runtime import DrawingOptions, Stages
from edge_sdk.inference.sampling import (
    SCHEDULERS,
    Denoiser,
    Latents,
    Noise,
    NoiseSchedule,
    PromptEncoder,
    Start,
    decode_in_tiles,
    to_pictures,
    to_pixels,
)
from edge_sdk.pictures import to_rgb

if TYPE_CHECKING:
    from typing_extensions import Unpack

# Called with (steps done, steps in all, latents (n, c, h, w)); returning False ends the drawing.
OnStep: TypeAlias = Callable[[int, int, Latents], bool | None]
Floats: TypeAlias = npt.NDArray[np.float32]
# "full": the base model's own decoder; "quick": the bundle's preview decoder, a tenth of the time.
Decoder: TypeAlias = Literal["full", "quick"]
# Largest ratio of a starting picture's sides for which the drawing takes its proportions; and the smallest side of a
# tile, in latents: nearly all of a smaller one would be blended.
_LONGEST_STRIP = 8
_SMALLEST_TILE = 8


class Generator:
    """Draws pictures with a bundle and any mix of adapters, which may change from call to call.

    Graphs are opened when they are first needed, so that encoding prompts alone never loads the UNet. Several threads
    may use one generator. `close` it, or use it in a `with`, to give its memory back at once.

    Args:
        bundle: the bundle to draw with.
        stages: its opened stages; None opens them.
        options: the fields of `DrawingSettings`, for stages that are opened here.
    """

    def __init__(self, bundle: Bundle, *, stages: Stages | None = None, **options: Unpack[DrawingOptions]) -> None:
        self.bundle = bundle
        self._stages = stages or Stages(bundle, **options)
        self._slots = {slot.name: slot for slot in bundle.index.slots}
        self._adapters: dict[str, Adapter] = {}
        self._prompts = PromptEncoder(bundle, self._stages)
        self._pictures = PictureEncoder(bundle, self._stages)
        self._schedule = NoiseSchedule.of_model(bundle.folder)

    @classmethod
    def load(cls, bundle: Path | str, *, verify: bool = True, **options: Unpack[DrawingOptions]) -> Generator:
        """Open a bundle.

        Args:
            bundle: its folder.
            verify: compare every file with its hash first.
            options: threads=, backend=, memory_limit=, prepare=, cache=, precision=, see `DrawingSettings`.

        Raises:
            BundleMissing: there is no bundle in the folder.
            BundleCorrupt: a file is missing, or is not the one that was exported.
            BundleError: the base model's scheduler asks for something unknown.
            BackendUnavailable: the back end does not work here.
            MemoryLimitTooSmall: the limit is too small for any picture.
            ValueError: no such back end, precision or size.
        """
        return cls(Bundle.load(bundle, verify=verify), **options)

    def close(self) -> None:
        """Close all graphs once no thread draws any more; afterwards this generator cannot draw.

        Raises:
            DeviceBusy: see `Stages.close`.
        """
        self._stages.close()

    def __enter__(self) -> Generator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def base_id(self) -> str:
        """The identity of the base model."""
        return self.bundle.index.base_id

    @property
    def slots(self) -> Mapping[str, Shape]:
        """Map of layer -> shape for the LoRA slots of the base model."""
        return MappingProxyType({name: slot.shape for name, slot in self._slots.items()})

    @property
    def adapters(self) -> Mapping[str, Adapter]:
        """Map of name -> adapter for the adapters that were added."""
        return MappingProxyType(self._adapters)

    def add_adapter(self, name: str, adapter: Adapter | Path | str) -> None:
        """Add an adapter, given as such or as a file, under a name that `generate` accepts; replaces one of that name.

        Raises:
            AdapterMismatch: it is of another base model, or has layers that this one lacks.
            AdapterValueError: it holds NaN, infinite or huge numbers.
            AdapterFormatError: the file is no LoRA adapter.
        """
        self._adapters[name] = self._checked(adapter if isinstance(adapter, Adapter) else adapters_.load(adapter))

    def remove_adapter(self, name: str) -> None:
        """Remove an adapter; does nothing if there is none of that name."""
        self._adapters.pop(name, None)

    def encode_prompt(self, texts: Sequence[str]) -> tuple[Floats, Floats]:
        """Encode prompts with the text encoder.

        Returns:
            hidden: (n, tokens, dim), the UNet's condition; embedding: (n, dim), its mean over the real tokens (start,
            words and the first end token), from which prompt codes are made.

        Warns:
            PromptTruncated: a prompt is too long.

        Raises:
            PromptError: a prompt is no text, or no valid Unicode.
        """
        tokens = self._prompts.tokens(texts, stacklevel=2)
        hidden = self._prompts.encode(texts, tokens).hidden
        mask = tokens.mask[..., None].astype(np.float32)
        return hidden, (hidden * mask).sum(axis=1) / mask.sum(axis=1)

    @property
    def encodes_pictures(self) -> bool:
        """True if the bundle has an image encoder, for `encode_picture`."""
        return self.bundle.index.image_encoder is not None

    def encode_picture(self, pictures: Image.Image | Sequence[Image.Image]) -> Floats:
        """Encode pictures with the bundle's image encoder.

        Args:
            pictures: one picture, or several, read as `edge_sdk.pictures.to_rgb` does.

        Returns:
            One embedding for each picture, (n, dim), from which picture codes are made.

        Raises:
            BundleError: the bundle has no image encoder.
            BundleCorrupt: the image encoder is not as the bundle's index describes it.
            PictureError: a picture cannot be used.
        """
        return self._pictures.encode([pictures] if isinstance(pictures, Image.Image) else pictures)

    def generate(
        self,
        prompt: str | Sequence[str],
        *,
        negative_prompt: str | Sequence[str] = "",
        seed: int | Sequence[int] | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        scheduler: str | None = None,
        adapters: Mix = (),
        hybrid: str = "merge",
        size: int | tuple[int, int] | None = None,
        picture: Image.Image | None = None,
        strength: float = 0.75,
        decoder: Decoder = "full",
        tile: int | None = None,
        reuse: int = 1,
        on_step: OnStep | None = None,
        count: int = 1,
        latents: Latents | None = None,
    ) -> list[Image.Image]:
        """Draw pictures.

        Args:
            prompt: what to draw, or several prompts, which are drawn together; a prompt that is too long for the text
                encoder is cut, with a warning.
            negative_prompt: what to keep away from, for all prompts or one for each; without effect at guidance 1 and
                below.
            seed: not negative; equal arguments and seeds give equal pictures. Picture i of several depends on (seed,
                i), so a larger `count` only adds pictures. With one seed for each picture, each is the one that its
                seed draws alone. None takes a random seed.
            steps: 1 to the trained timesteps of the base model (1000); 2 to 8 for "lcm". None: the bundle's default.
            guidance: how strongly to follow the prompt; 1 and below draws without guidance, twice as fast. None: the
                bundle's default.
            scheduler: a key of `SCHEDULERS`. None: the bundle's default.
            adapters: {name: weight} of adapters added before, or pairs (adapter, weight).
            hybrid: a key of `HYBRIDS`, the way in which several adapters draw together: "merge" adds them up, "guide"
                too, and lets guidance strengthen what they changed ("merge" lets it strengthen the prompt), "switch"
                lets them take turns by step, "composite" averages their guidance (k times as long for k adapters),
                "select" chooses one of two in each layer, content first and style second; "steer", "patches" and
                "bands" add up their changes to the base model's prediction: everywhere, by places, and by frequencies
                (1 + k / 2 times as long for k adapters).
            size: pixels a side, or (width, height). None: the size that the base model was trained for; with a
                `picture` about as many pixels, in its proportions.
            picture: the picture to start from instead of pure noise (image to image), read as
                `edge_sdk.pictures.to_rgb` does.
            strength: above 0, up to 1: distance from `picture`, and the share of the steps that is done.
            decoder: "full", or "quick" for the bundle's preview decoder.
            tile: decode in overlapping tiles of so many pixels a side, which takes memory for only one of them. None:
                whole pictures, as far as a memory limit allows.
            reuse: compute the UNet's deep part only at every n-th step, which is faster and less exact; 1 computes it
                always.
            on_step: called after every step; returning False cancels the drawing.
            count: number of pictures of each prompt, drawn together.
            latents: unit noise (n, c, h, w) to start from instead of the seed's.

        Returns:
            `count` pictures for each prompt, prompt by prompt; none if `on_step` cancelled.

        Warns:
            PromptTruncated: a prompt is too long.

        Raises:
            AdapterError: there is no adapter of that name.
            AdapterMismatch, AdapterValueError: an adapter cannot be used on this base model.
            PromptError: a prompt is no text, or no valid Unicode.
            HybridUnsupported: the hybrid cannot combine so many adapters.
            SizeUnsupported: the base model cannot draw such sides.
            PictureError: `picture` cannot be used.
            BundleError: there is no quick decoder in the bundle, or it was not exported for step reuse.
            ValueError: another argument makes no sense.
            DrawingError: the drawing diverged.
            Any error that `on_step` raises.
        """
        index = self.bundle.index
        chosen = _Choice(
            steps=index.defaults.steps if steps is None else steps,
            guidance=index.defaults.guidance if guidance is None else guidance,
            scheduler=index.defaults.scheduler if scheduler is None else scheduler,
            hybrid=hybrid,
        )
        self._check_decoder(decoder)
        self._check_reuse(reuse)
        terms = self._terms(adapters)
        prompts, negatives = _texts(prompt, negative_prompt)
        if count < 1:
            raise ValueError(f"count must be at least 1, not {count}.")
        picture = None if picture is None else to_rgb(picture)
        wide, tall = self._size(size, picture)
        noise = Noise(seed, len(prompts) * count, index.latent_shape(tall, wide))
        unit = noise()
        start = Start(
            noise=unit if latents is None else _checked_latents(latents, unit.shape),
            picture=None if picture is None else self._encode(picture, (wide, tall)),
            strength=_checked_strength(strength),
        )
        skipped = start.skipped_steps(chosen.steps)
        drawn_with = HYBRIDS[chosen.hybrid](terms, self._slots, range(skipped, chosen.steps))
        guided = chosen.guidance > 1 and index.guidance_dim is None
        texts = [*negatives, *prompts] if guided else prompts
        tokens = self._prompts.tokens(texts, stacklevel=2)
        condition = self._prompts.encode(texts, tokens, negatives=len(negatives) if guided else 0).repeated(count)
        denoise = Denoiser(
            self._stages, index, condition,
            guidance=chosen.guidance, guided=guided, size=(wide, tall), hybrid=drawn_with, reuse=reuse,
        )  # fmt: skip
        x, total = unit, chosen.steps - skipped
        drawing = SCHEDULERS[chosen.scheduler](denoise, start, self._schedule, chosen.steps, noise)
        for step, x in enumerate(drawing, 1):
            if on_step is not None and on_step(step, total, x) is False:
                return []
        return self._decode(x, decoder, tile)

    def preview(self, latents: Latents) -> list[Image.Image]:
        """Decode latents, such as those that `on_step` gets, with the bundle's preview decoder.

        Raises:
            BundleError: the bundle has no preview decoder.
        """
        self._check_decoder("quick")
        return self._decode(latents, "quick", None)

    def _checked(self, adapter: Adapter) -> Adapter:
        adapters_.check(adapter, self.slots, self.base_id)
        return adapter

    def _terms(self, mix: Mix) -> list[tuple[Adapter, float]]:
        if not isinstance(mix, Mapping):
            terms = [(self._checked(adapter), weight) for adapter, weight in mix]
        else:
            if unknown := [name for name in mix if name not in self._adapters]:
                known = ", ".join(sorted(self._adapters)) or "none"
                raise AdapterError(
                    f"There is no adapter {unknown[0]!r} (known: {known}): add it with add_adapter first."
                )
            terms = [(self._adapters[name], weight) for name, weight in mix.items()]
        if not all(math.isfinite(weight) for _, weight in terms):
            raise ValueError("The weight of an adapter must be a finite number.")
        return terms

    def _size(self, size: int | tuple[int, int] | None, picture: Image.Image | None) -> tuple[int, int]:
        """Width and height in pixels."""
        step, trained = self.bundle.index.size_step, self.bundle.index.image_size
        if size is None and picture is not None:
            # About as many pixels as the base model was trained for, in the picture's proportions.
            if max(picture.size) > _LONGEST_STRIP * min(picture.size):
                raise SizeUnsupported(
                    f"A picture of {picture.width} x {picture.height} pixels is too narrow for its size to be taken: "
                    "say which size to draw, or cut it."
                )
            scale = trained / (picture.width * picture.height) ** 0.5
            wide, tall = (max(1, round(side * scale / step)) * step for side in picture.size)
            return wide, tall
        wide, tall = (trained, trained) if size is None else (size, size) if isinstance(size, int) else size
        if not all(isinstance(side, int) and side > 0 and side % step == 0 for side in (wide, tall)):
            near = " x ".join(str(max(1, round(side / step)) * step) for side in (wide, tall))
            raise SizeUnsupported(
                f"This base model draws pictures whose sides are multiples of {step} pixels, not {wide} x {tall}: "
                f"ask for {near}."
            )
        return wide, tall

    def _encode(self, picture: Image.Image, size: tuple[int, int]) -> Latents:
        """Latents (1, c, h, w) of a picture: the mean of the autoencoder's posterior."""
        found = self._stages.run("vae_encoder", ["latent_parameters"], {"sample": to_pixels(picture, size)})[0]
        return np.ascontiguousarray(np.split(found, 2, axis=1)[0] * self.bundle.index.vae_scaling_factor)

    def _check_decoder(self, decoder: Decoder) -> None:
        if decoder not in ("full", "quick"):
            raise ValueError(f"There is no decoder {decoder!r}; choose full or quick.")
        if decoder == "quick" and self.bundle.index.preview_scaling_factor is None:
            raise BundleError(
                f"The bundle in {self.bundle.folder} has no preview decoder: export it with --preview and the folder "
                "of a tiny autoencoder (TAESD)."
            )

    def _check_reuse(self, reuse: int) -> None:
        if reuse < 1:
            raise ValueError(f"reuse must be at least 1, not {reuse}.")
        if reuse > 1 and self.bundle.index.shallow_slots is None:
            raise BundleError(
                f"The bundle in {self.bundle.folder} was not made for step reuse: export it with --step-reuse."
            )

    def _decode(self, latents: Latents, decoder: Decoder, tile: int | None) -> list[Image.Image]:
        index = self.bundle.index
        quick = decoder == "quick"
        stage = "preview_decoder" if quick else "vae_decoder"
        factor = index.preview_scaling_factor if quick else index.vae_scaling_factor
        scaled = (latents / np.float32(factor)).astype(np.float32)

        def decode(part: Latents) -> Floats:
            return self._stages.run(stage, ["sample"], {"latent_sample": part})[0]

        smallest = _SMALLEST_TILE * index.vae_scale_factor
        if tile is not None and tile < smallest:
            raise ValueError(f"A tile must have at least {smallest} pixels a side, not {tile}.")
        if tile is None and self._stages.fits(stage, {"latent_sample": scaled}):
            return to_pictures(decode(scaled))
        # One picture at a time, in tiles if they are asked for or memory is too short for a whole one.
        side = self._tile_that_fits(stage, scaled[:1]) if tile is None else tile // index.vae_scale_factor
        parts = [decode_in_tiles(decode, one[None], side, index.vae_scale_factor) for one in scaled]
        return to_pictures(np.concatenate(parts))

    def _tile_that_fits(self, stage: str, one: Latents) -> int:
        """Side, in latents, of the largest tile that can be decoded within the memory limit."""
        side = int(max(one.shape[2:]))
        while side > _SMALLEST_TILE and not self._stages.fits(stage, {"latent_sample": one[:, :, :side, :side]}):
            side = max(_SMALLEST_TILE, side * 3 // 4)
        return side


@dataclass(frozen=True)
class _Choice:
    """Drawing settings with the bundle's defaults filled in."""

    steps: int
    guidance: float
    scheduler: str
    hybrid: str

    def __post_init__(self) -> None:
        if self.scheduler not in SCHEDULERS:
            raise ValueError(f"There is no scheduler {self.scheduler!r}; choose one of {', '.join(SCHEDULERS)}.")
        if self.hybrid not in HYBRIDS:
            raise ValueError(f"There is no hybrid {self.hybrid!r}; choose one of {', '.join(HYBRIDS)}.")
        if not math.isfinite(self.guidance):
            raise ValueError(f"guidance must be a finite number, not {self.guidance}.")


def _texts(prompt: str | Sequence[str], negative: str | Sequence[str]) -> tuple[list[str], list[str]]:
    """Lists of the prompts and of as many negative prompts."""
    # The tokenizer refuses prompts of other types.
    prompts = list(prompt) if isinstance(prompt, Sequence) and not isinstance(prompt, str) else [prompt]
    negatives = [negative] * len(prompts) if isinstance(negative, str) else list(negative)
    if not prompts or len(negatives) != len(prompts):
        raise ValueError(f"There are {len(prompts)} prompts and {len(negatives)} negative ones: give one for each.")
    return prompts, negatives


def _checked_strength(strength: float) -> float:
    if not 0 < strength <= 1:
        raise ValueError(f"strength must be above 0 and at most 1, not {strength}.")
    return strength


def _checked_latents(latents: Latents, shape: tuple[int, ...]) -> Latents:
    if latents.shape != shape or not np.isfinite(latents).all():
        raise ValueError(f"latents must be finite numbers of shape {shape}, not {latents.shape}.")
    return np.ascontiguousarray(latents, np.float32)
