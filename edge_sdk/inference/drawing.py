"""From an order to the states of its drawing, step by step; a drawing may go on where another one stopped."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import numpy as np
from PIL import Image

from edge_sdk.adapter import Adapter
from edge_sdk.errors import BundleError, SizeUnsupported
from edge_sdk.inference.adapters import HYBRIDS, Mix, Step
from edge_sdk.inference.bundle import Bundle, Slot
from edge_sdk.inference.runtime import Stages
from edge_sdk.inference.sampling import (
    SCHEDULERS,
    Course,
    Denoiser,
    DrawingState,
    Latents,
    Noise,
    NoiseSchedule,
    Point,
    PromptEncoder,
    PromptWords,
    Solving,
    Start,
    Unet,
    solved,
    to_pixels,
)
from edge_sdk.pictures import to_rgb

# (name of a hybrid, its adapters, steps) -> the steps: see `edge_sdk.inference.adapters.hybrids`.
Plan: TypeAlias = Callable[[str, Sequence[tuple[Adapter, float]], range], Iterator[Step]]
# Largest ratio of a starting picture's sides for which the drawing takes its proportions.
_LONGEST_STRIP = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Order:
    """All that decides the latents of a drawing.

    Attributes:
        prompt, negative_prompt: as in `Generator.generate`, or as token ids.
        state: the state to go on from, of a drawing of the same seed, size and number of pictures; None begins. The
            steps that are done are left out. Adapters, prompts, hybrid and guidance may be others.
        The others: see `Generator.generate`.
    """

    prompt: str | PromptWords | Sequence[str | PromptWords]
    negative_prompt: str | PromptWords | Sequence[str | PromptWords] = ""
    seed: int | Sequence[int] | None = None
    steps: int | None = None
    guidance: float | None = None
    scheduler: str | None = None
    adapters: Mix = ()
    hybrid: str = "merge"
    size: int | tuple[int, int] | None = None
    picture: Image.Image | None = None
    strength: float = 0.75
    reuse: int = 1
    count: int = 1
    latents: Latents | None = None
    state: DrawingState | None = None


@dataclass(frozen=True, eq=False)
class Begun:
    """A drawing before its first step.

    Attributes:
        course: its course.
        skipped: the first of its steps, which are not done.
        solving: its scheduler.
        denoiser: its prompts and adapters.
    """

    course: Course
    skipped: int
    solving: Solving
    denoiser: Denoiser


class Sampler:
    """Carries orders out with a bundle, up to their latents.

    Args:
        bundle, stages: the bundle and its opened stages.
        prompts: its prompt encoder.
    """

    def __init__(self, bundle: Bundle, stages: Stages, prompts: PromptEncoder) -> None:
        self.slots: Mapping[str, Slot] = {slot.name: slot for slot in bundle.index.slots}
        self._index = bundle.index
        self._folder = bundle.folder
        self._stages = stages
        self._prompts = prompts
        self._schedule = NoiseSchedule.of_model(bundle.folder)

    def course(self, order: Order) -> Course:
        """The facts that a state must share for this order to go on from it.

        Raises:
            ValueError: there is no such scheduler.
        """
        chosen = self._chosen(order)
        return Course(self._index.base_id, self._index.variant, self._schedule.id, chosen.scheduler, chosen.steps)

    def shape(self, order: Order) -> tuple[int, int, int, int]:
        """Shape (n, c, h, w) of an order's latents.

        Raises:
            ValueError, SizeUnsupported: the order makes no sense.
        """
        wide, tall = self._size(order.size, order.picture)
        return (len(_texts(order)[0]) * order.count, *self._index.latent_shape(tall, wide))

    def guidance(self, order: Order) -> float:
        """The guidance scale of an order."""
        return self._chosen(order).guidance

    def noisy_steps(self, steps: int, signal: float) -> int:
        """Number of the first of so many steps that end where the share of the signal in the variance is at most this.

        The last step, after which there is no noise, is none of them. It is that of evenly spaced timesteps; schedulers
        differ by a step.
        """
        timesteps = self._schedule.timesteps(min(steps, self._schedule.length), "linspace")
        return int((self._schedule.alphas[timesteps.round().astype(int)[1:]] <= signal).sum())

    def check(self, state: DrawingState, order: Order) -> None:
        """Check that this order can go on from a state.

        Raises:
            StateMismatch, StateInvalid: see `DrawingState.check`.
            ValueError, SizeUnsupported: the order itself makes no sense.
        """
        state.check(self.course(order), self.shape(order), self._schedule.largest)

    def begin(
        self, order: Order, terms: Sequence[tuple[Adapter, float]], stacklevel: int
    ) -> tuple[int, Iterator[DrawingState]]:
        """Check an order and encode its prompts; the iterator then draws, and yields the state after every step.

        Args:
            order, terms, stacklevel: as for `prepare`.

        Returns:
            The number of steps that are left to do, and the iterator.

        Raises:
            As `Generator.states`.
        """
        begun = self.prepare(order, terms, stacklevel + 1, self.steps_of)
        unet = Unet(self._stages, self._index, order.reuse)

        def denoise(point: Point) -> Latents:
            return begun.denoiser.predicted([unet.predict(run) for run in begun.denoiser.runs(point)])

        states = (
            DrawingState(begun.course, step, solver)
            for step, solver in enumerate(solved(begun.solving, denoise), begun.skipped + 1)
        )
        return begun.course.steps - begun.skipped, states

    def steps_of(self, hybrid: str, terms: Sequence[tuple[Adapter, float]], steps: range) -> Iterator[Step]:
        """The steps of a hybrid, made for one drawing."""
        return HYBRIDS[hybrid](terms, self.slots, steps)

    def unet(self) -> Unet:
        """The UNet, for drawings that go on together."""
        return Unet(self._stages, self._index)

    def prepare(self, order: Order, terms: Sequence[tuple[Adapter, float]], stacklevel: int, plan: Plan) -> Begun:
        """Check an order and encode its prompts.

        Args:
            order: the order.
            terms: its adapters, checked.
            stacklevel: that of `warnings.warn`, counted from the caller.
            plan: makes the steps of its hybrid.

        Raises:
            As `Generator.states`.
        """
        index, chosen = self._index, self._chosen(order)
        self._check_reuse(order)
        prompts, negatives = _texts(order)
        picture = None if order.picture is None else to_rgb(order.picture)
        wide, tall = self._size(order.size, picture)
        noise = Noise(order.seed, len(prompts) * order.count, index.latent_shape(tall, wide))
        unit = noise()
        start = Start(
            noise=unit if order.latents is None else _checked_latents(order.latents, unit.shape),
            picture=None if picture is None else self._encode(picture, (wide, tall)),
            strength=_checked_strength(order.strength),
        )
        if order.state is not None:
            _check_goes_on(order)
            self.check(order.state, order)
            start = Start(unit, done=order.state.step, state=order.state.solver)
        skipped = start.skipped_steps(chosen.steps)
        drawn_with = plan(chosen.hybrid, terms, range(0 if start.state else skipped, chosen.steps))
        guided = chosen.guidance > 1 and index.guidance_dim is None
        words = self._prompts.words([*negatives, *prompts] if guided else prompts, stacklevel=stacklevel + 1)
        condition = self._prompts.encode(words, negatives=len(negatives) if guided else 0).repeated(order.count)
        denoiser = Denoiser(
            index, condition, guidance=chosen.guidance, guided=guided, size=(wide, tall),
            # A hybrid's turns are those of the whole drawing.
            hybrid=islice(drawn_with, start.done, None),
        )  # fmt: skip
        solving = SCHEDULERS[chosen.scheduler](start, self._schedule, chosen.steps, noise)
        return Begun(self.course(order), skipped, solving, denoiser)

    def _chosen(self, order: Order) -> _Choice:
        defaults = self._index.defaults
        return _Choice(
            steps=defaults.steps if order.steps is None else order.steps,
            guidance=defaults.guidance if order.guidance is None else order.guidance,
            scheduler=defaults.scheduler if order.scheduler is None else order.scheduler,
            hybrid=order.hybrid,
        )

    def _size(self, size: int | tuple[int, int] | None, picture: Image.Image | None) -> tuple[int, int]:
        """Width and height in pixels."""
        step, trained = self._index.size_step, self._index.image_size
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
        return np.ascontiguousarray(np.split(found, 2, axis=1)[0] * self._index.vae_scaling_factor)

    def _check_reuse(self, order: Order) -> None:
        if order.reuse < 1:
            raise ValueError(f"reuse must be at least 1, not {order.reuse}.")
        if order.reuse > 1 and self._index.shallow_slots is None:
            raise BundleError(f"The bundle in {self._folder} was not made for step reuse: export it with --step-reuse.")


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


def _texts(order: Order) -> tuple[list[str | PromptWords], list[str | PromptWords]]:
    """Lists of the prompts and of as many negative prompts."""
    # The tokenizer refuses prompts of other types.
    prompt, negative = order.prompt, order.negative_prompt
    prompts = [prompt] if isinstance(prompt, str | PromptWords) or not isinstance(prompt, Sequence) else list(prompt)
    negatives = [negative] * len(prompts) if isinstance(negative, str | PromptWords) else list(negative)
    if not prompts or len(negatives) != len(prompts):
        raise ValueError(f"There are {len(prompts)} prompts and {len(negatives)} negative ones: give one for each.")
    if order.count < 1:
        raise ValueError(f"count must be at least 1, not {order.count}.")
    return prompts, negatives


def _check_goes_on(order: Order) -> None:
    """Refuse what a state does not have: a starting picture, other noise, deep features."""
    given = {"picture": order.picture is not None, "latents": order.latents is not None, "reuse": order.reuse > 1}
    if unfit := [name for name, is_given in given.items() if is_given]:
        raise ValueError(f"A drawing cannot go on from a state with {unfit[0]}: leave that out.")
    if order.seed is None:
        raise ValueError("A drawing goes on with the seed that it was begun with: give it.")


def _checked_strength(strength: float) -> float:
    if not 0 < strength <= 1:
        raise ValueError(f"strength must be above 0 and at most 1, not {strength}.")
    return strength


def _checked_latents(latents: Latents, shape: tuple[int, ...]) -> Latents:
    if latents.shape != shape or not np.isfinite(latents).all():
        raise ValueError(f"latents must be finite numbers of shape {shape}, not {latents.shape}.")
    return np.ascontiguousarray(latents, np.float32)
