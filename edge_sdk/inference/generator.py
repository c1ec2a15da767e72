"""Prompt to pictures."""

from __future__ import annotations

import math
import secrets
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from edge_sdk import adapter as adapters_
from edge_sdk.adapter import Adapter
from edge_sdk.errors import AdapterError, ImpastoError
from edge_sdk.inference.backends import Precision
from edge_sdk.inference.bundle import Bundle
from edge_sdk.inference.mixing import Feed, Mix, to_feed
from edge_sdk.inference.schedulers import SCHEDULERS, Denoise, Latents, NoiseSchedule
from edge_sdk.inference.stages import Stages
from edge_sdk.inference.tokenizer import PromptTruncated, Tokenizer, Tokens

# (step just done, of how many, latents (n, c, h, w) after it); False ends the drawing.
OnStep: TypeAlias = Callable[[int, int, Latents], bool | None]
Floats: TypeAlias = npt.NDArray[np.float32]


class Generator:
    """Draws with a bundle, with any mix of adapters, which may be another one at every call.

    Graphs are opened when they are first needed, so that encoding prompts alone never loads the UNet. One generator may
    be used by several threads. `close` it, or use it in a `with`, to give its memory back at once.

    The arguments beside the bundle are those of `Stages`.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        threads: int | None = None,
        backend: str = "cpu",
        memory_limit: int | str | None = None,
        prepare: bool = True,
        cache: Path | str | None = None,
        precision: Precision = "auto",
    ) -> None:
        self.bundle = bundle
        self._stages = Stages(
            bundle,
            threads=threads,
            backend=backend,
            memory_limit=memory_limit,
            prepare=prepare,
            cache=cache,
            precision=precision,
        )
        self._slots = {slot.name: slot for slot in bundle.index.slots}
        self._adapters: dict[str, Adapter] = {}
        self._tokenizer = Tokenizer(bundle.path("tokenizer"))
        self._schedule = NoiseSchedule.from_json(bundle.path("scheduler/scheduler_config.json").read_bytes())

    @classmethod
    def load(
        cls,
        bundle: Path | str,
        *,
        threads: int | None = None,
        verify: bool = True,
        backend: str = "cpu",
        memory_limit: int | str | None = None,
        prepare: bool = True,
        cache: Path | str | None = None,
        precision: Precision = "auto",
    ) -> Generator:
        """Open a bundle.

        Args:
            bundle: its folder.
            threads: CPU threads to draw with; by default all cores that the process may use.
            verify: compare every file with its hash first.
            backend: what to draw with, a key of `BACKENDS`; "auto" takes the fastest that works here.
            memory_limit: such as "1GB": stages are closed before others are opened, where they would not fit together.
            prepare: lay out large stages for this processor, once and on disk; see `edge_sdk.inference.prepare`.
            cache: the folder for that; by default $IMPASTO_CACHE or the user's cache folder.
            precision: "bf16" or "f32" for back ends that have a choice; "auto" is bfloat16 where it is fast.

        Raises:
            BundleMissing: no bundle there.
            BundleCorrupt: a file is missing or not the one that was exported.
            BundleError: the base model's scheduler asks for something unknown.
            BackendUnavailable: the back end does not work here.
            MemoryLimitTooSmall: the limit is too small for any picture.
            ValueError: no such back end, precision or size.
        """
        return cls(
            Bundle.load(bundle, verify=verify),
            threads=threads,
            backend=backend,
            memory_limit=memory_limit,
            prepare=prepare,
            cache=cache,
            precision=precision,
        )

    def close(self) -> None:
        """Close all graphs once nobody draws any more; afterwards this generator cannot draw."""
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
    def slots(self) -> Mapping[str, tuple[int, int]]:
        """LoRA slots of the base model: layer -> (in_features, out_features)."""
        return MappingProxyType({name: (slot.in_features, slot.out_features) for name, slot in self._slots.items()})

    @property
    def adapters(self) -> Mapping[str, Adapter]:
        """The adapters added by name."""
        return MappingProxyType(self._adapters)

    def add_adapter(self, name: str, adapter: Adapter | Path | str) -> None:
        """Keep an adapter, given as such or as a file, under a name that `generate` then knows; replaces one of that
        name.

        Raises:
            AdapterMismatch: it is of another base model, or has layers that this one has not.
            AdapterValueError: it holds NaN, infinite or huge numbers.
            AdapterFormatError: the file is no LoRA adapter.
        """
        self._adapters[name] = self._checked(adapter if isinstance(adapter, Adapter) else adapters_.load(adapter))

    def remove_adapter(self, name: str) -> None:
        """Forget an adapter; it need not be there."""
        self._adapters.pop(name, None)

    def encode_prompt(self, texts: Sequence[str]) -> tuple[Floats, Floats]:
        """What the text encoder makes of prompts.

        Returns:
            hidden: (n, tokens, dim), the UNet's condition; embedding: (n, dim), the mean of it over the real tokens
            (start, words and the first end token), which prompt codes are made of.

        Warns:
            PromptTruncated: a prompt is too long.

        Raises:
            PromptError: not a text, or one that is no valid Unicode.
        """
        tokens = self._tokens(texts)
        hidden = self._hidden(tokens)
        mask = tokens.mask[..., None].astype(np.float32)
        return hidden, (hidden * mask).sum(axis=1) / mask.sum(axis=1)

    def generate(
        self,
        prompt: str,
        *,
        negative_prompt: str = "",
        seed: int | None = None,
        steps: int = 25,
        guidance: float = 5.0,
        scheduler: str = "dpm++",
        adapters: Mix = (),
        on_step: OnStep | None = None,
        count: int = 1,
        latents: Latents | None = None,
    ) -> list[Image.Image]:
        """Draw pictures.

        Args:
            prompt: what to draw; what the text encoder cannot read is cut off with a warning that says so.
            negative_prompt: what to keep away from; without effect at guidance 1 and below.
            seed: not negative; equal arguments and seeds give equal pictures. Picture i of several depends on (seed,
                i), so a larger `count` only adds pictures. None draws a new one.
            steps: 1 to the trained timesteps of the base model (1000); 2 to 8 for "lcm".
            guidance: how strongly to follow the prompt; 1 and below draws without guidance, twice as fast.
            scheduler: a key of `SCHEDULERS`.
            adapters: {name: weight} of adapters added before, or pairs (adapter, weight).
            on_step: called after every step; returning False cancels.
            count: how many pictures, drawn together.
            latents: unit noise (count, c, h, w) to start from instead of the seed's.

        Returns:
            `count` pictures; none if `on_step` cancelled.

        Warns:
            PromptTruncated: a prompt is too long.

        Raises:
            AdapterError: no adapter of that name; AdapterMismatch, AdapterValueError: it cannot be used on this base
            model.
            PromptError: not a text, or one that is no valid Unicode.
            ValueError: another argument makes no sense.
            ImpastoError: the drawing diverged.
        """
        if scheduler not in SCHEDULERS:
            raise ValueError(f"There is no scheduler {scheduler!r}; choose one of {', '.join(SCHEDULERS)}.")
        if not math.isfinite(guidance):
            raise ValueError(f"guidance must be a finite number, not {guidance}.")
        feed = to_feed(self._terms(adapters), self._slots)
        noise, fresh_noise = _noise_sources(seed, count, self.bundle.index.latent_shape)
        start = noise if latents is None else _checked_latents(latents, noise.shape)
        guided = guidance > 1
        hidden = self._hidden(self._tokens([negative_prompt, prompt] if guided else [prompt]))
        denoise = self._denoiser(np.repeat(hidden, count, axis=0), guidance if guided else None, feed)
        x = start
        for step, x in enumerate(SCHEDULERS[scheduler](denoise, start, self._schedule, steps, fresh_noise), 1):
            if on_step is not None and on_step(step, steps, x) is False:
                return []
        return self._decode(x)

    def _tokens(self, texts: Sequence[str]) -> Tokens:
        """To be called by public methods: the warning points to who called those."""
        tokens = self._tokenizer.encode(texts)
        for cut in filter(None, tokens.cut):
            warnings.warn(PromptTruncated(cut, self._tokenizer.length), stacklevel=3)
        return tokens

    def _hidden(self, tokens: Tokens) -> Floats:
        return self._stages.run("text_encoder", ["last_hidden_state"], {"input_ids": tokens.ids})[0]

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

    def _denoiser(self, hidden: Floats, guidance: float | None, feed: Feed) -> Denoise:
        """The UNet as a function of latents and timestep, under the given prompts and adapters."""

        def predict(x: Latents, t: float) -> Latents:
            timestep = np.array(t, np.float32)
            inputs = {"sample": x, "timestep": timestep, "encoder_hidden_states": hidden, **feed}
            return self._stages.run("unet", ["out_sample"], inputs)[0]

        def guided(x: Latents, t: float) -> Latents:
            assert guidance is not None
            without, with_prompt = np.split(predict(np.concatenate([x, x]), t), 2)
            return without + guidance * (with_prompt - without)

        return predict if guidance is None else guided

    def _decode(self, latents: Latents) -> list[Image.Image]:
        scaled = (latents / self.bundle.index.vae_scaling_factor).astype(np.float32)
        pictures = self._stages.run("vae_decoder", ["sample"], {"latent_sample": scaled})[0]
        if not np.isfinite(pictures).all():
            raise ImpastoError("The drawing diverged: use smaller adapter weights, less guidance or more steps.")
        pixels = ((pictures / 2 + 0.5).clip(0, 1) * 255).round().astype(np.uint8)
        return [Image.fromarray(picture) for picture in pixels.transpose(0, 2, 3, 1)]


def _noise_sources(seed: int | None, count: int, shape: tuple[int, int, int]) -> tuple[Latents, Callable[[], Latents]]:
    """The first unit noise (count, c, h, w), and a function for more of it: one independent stream a picture."""
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}.")
    if seed is not None and seed < 0:
        raise ValueError(f"A seed is not negative, and this one is {seed}.")
    entropy = secrets.randbits(64) if seed is None else seed
    streams = [np.random.default_rng([entropy, picture]) for picture in range(count)]

    def draw() -> Latents:
        return np.stack([stream.standard_normal(shape, np.float32) for stream in streams])

    return draw(), draw


def _checked_latents(latents: Latents, shape: tuple[int, ...]) -> Latents:
    if latents.shape != shape or not np.isfinite(latents).all():
        raise ValueError(f"latents must be finite numbers of shape {shape}, not {latents.shape}.")
    return np.ascontiguousarray(latents, np.float32)
