"""Generator: from prompts to pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from edge_sdk import adapter as adapters_
from edge_sdk.adapter import Adapter, Shape
from edge_sdk.errors import AdapterError, BundleError
from edge_sdk.inference.adapters import Mix
from edge_sdk.inference.bundle import Bundle
from edge_sdk.inference.drawing import Order, Sampler
from edge_sdk.inference.joint import Joint
from edge_sdk.inference.picture_encoder import PictureEncoder
from edge_sdk.inference.runtime import DrawingOptions, Stages
from edge_sdk.inference.sampling import (
    Course,
    DrawingState,
    Latents,
    PromptEncoder,
    PromptWords,
    decode_in_tiles,
    to_pictures,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

# Called with (steps done, steps in all, latents (n, c, h, w)); returning False ends the drawing.
OnStep: TypeAlias = Callable[[int, int, Latents], bool | None]
Floats: TypeAlias = npt.NDArray[np.float32]
# "full": the base model's own decoder; "quick": the bundle's preview decoder, a tenth of the time.
Decoder: TypeAlias = Literal["full", "quick"]
# The smallest side of a tile, in latents: nearly all of a smaller one would be blended.
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
        self._adapters: dict[str, Adapter] = {}
        self._prompts = PromptEncoder(bundle, self._stages)
        self._pictures = PictureEncoder(bundle, self._stages)
        self._sampler = Sampler(bundle, self._stages, self._prompts)

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
        return MappingProxyType({name: slot.shape for name, slot in self._sampler.slots.items()})

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
        words = self._prompts.words(texts, stacklevel=2)
        hidden = self._prompts.encode(words).hidden
        mask = self._prompts.tokens(words).mask[..., None].astype(np.float32)
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
        order = Order(
            prompt=prompt,
            negative_prompt=negative_prompt,
            seed=seed,
            steps=steps,
            guidance=guidance,
            scheduler=scheduler,
            adapters=adapters,
            hybrid=hybrid,
            size=size,
            picture=picture,
            strength=strength,
            reuse=reuse,
            count=count,
            latents=latents,
        )
        return self._drawn(order, decoder, tile, on_step)

    def draw(
        self, order: Order, *, decoder: Decoder = "full", tile: int | None = None, on_step: OnStep | None = None
    ) -> list[Image.Image]:
        """Draw the pictures of an order: `generate`, for those who have its arguments as an `Order`."""
        return self._drawn(order, decoder, tile, on_step)

    def _drawn(self, order: Order, decoder: Decoder, tile: int | None, on_step: OnStep | None) -> list[Image.Image]:
        self.check_decoder(decoder)
        # Warnings are of those who call this method's two callers.
        total, states = self._sampler.begin(order, self._terms(order.adapters), stacklevel=3)
        for step, state in enumerate(states, 1):
            if on_step is not None and on_step(step, total, state.latents) is False:
                return []
        return self._decode(state.latents, decoder, tile)

    def states(self, order: Order) -> Iterator[DrawingState]:
        """Check an order, then draw: yield the state after every step. `decode` makes pictures of the last one.

        Another generator, elsewhere and with other adapters, can go on from any of the states (`Order.state`): with the
        same bundle, settings and adapters to the same pictures, bit for bit.

        Warns:
            PromptTruncated: a prompt is too long.

        Raises:
            StateMismatch, StateInvalid: the order cannot go on from its state.
            The others: as `generate`.
        """
        return self._sampler.begin(order, self._terms(order.adapters), stacklevel=2)[1]

    def together(self) -> Joint:
        """Drawings that go on together, each as it would be alone (docs/inference.md has the tolerance)."""
        return Joint(self._sampler, self._terms)

    def check_state(self, state: DrawingState, order: Order) -> None:
        """Check that an order can go on from a state, whatever state it names itself; draws nothing.

        Raises:
            StateMismatch: the state is of another base model, precision, schedule, scheduler or number of steps.
            StateInvalid: it holds NaN, numbers out of range, another size or number of pictures, or leaves no step.
            ValueError, SizeUnsupported: the order makes no sense.
        """
        self._sampler.check(state, order)

    def course(self, order: Order) -> Course:
        """All that a state must share with an order for the drawing to go on from it.

        Raises:
            ValueError: there is no such scheduler or hybrid.
        """
        return self._sampler.course(order)

    def latent_shape(self, order: Order) -> tuple[int, int, int, int]:
        """Shape (n, c, h, w) of the latents of an order.

        Raises:
            ValueError, SizeUnsupported: the order makes no sense.
        """
        return self._sampler.shape(order)

    def guidance(self, order: Order) -> float:
        """The guidance scale with which an order is drawn."""
        return self._sampler.guidance(order)

    def noisy_steps(self, steps: int, signal: float) -> int:
        """See `Sampler.noisy_steps`."""
        return self._sampler.noisy_steps(steps, signal)

    def words(self, prompt: str) -> PromptWords:
        """A prompt as token ids, which `Order` takes in place of a text.

        Warns:
            PromptTruncated: the prompt is too long.

        Raises:
            PromptError: it is no text, or no valid Unicode.
        """
        return self._prompts.words([prompt], stacklevel=2)[0]

    def decode(self, latents: Latents, *, decoder: Decoder = "full", tile: int | None = None) -> list[Image.Image]:
        """Decode latents (n, c, h, w) to pictures.

        Args:
            latents: those of a drawing's last step.
            decoder, tile: as in `generate`.

        Raises:
            BundleError: there is no quick decoder in the bundle.
            ValueError: the tile is too small.
            DrawingError: the drawing diverged.
        """
        self.check_decoder(decoder)
        return self._decode(latents, decoder, tile)

    def preview(self, latents: Latents) -> list[Image.Image]:
        """Decode latents, such as those that `on_step` gets, with the bundle's preview decoder.

        Raises:
            BundleError: the bundle has no preview decoder.
        """
        return self.decode(latents, decoder="quick")

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

    def check_decoder(self, decoder: Decoder) -> None:
        """Check that the bundle has a decoder.

        Raises:
            BundleError: there is no quick decoder in the bundle.
            ValueError: there is no such decoder.
        """
        if decoder not in ("full", "quick"):
            raise ValueError(f"There is no decoder {decoder!r}; choose full or quick.")
        if decoder == "quick" and self.bundle.index.preview_scaling_factor is None:
            raise BundleError(
                f"The bundle in {self.bundle.folder} has no preview decoder: export it with --preview and the folder "
                "of a tiny autoencoder (TAESD)."
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
