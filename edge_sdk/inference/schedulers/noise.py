"""The noise schedule that a base model was trained with, read from its scheduler_config.json."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import sqrt
from typing import Annotated, Literal, Protocol, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from edge_sdk.errors import BundleError

Latents: TypeAlias = npt.NDArray[np.float32]
# (latents (n, c, h, w), trained timestep) -> what the model predicts, of the same shape.
Denoise: TypeAlias = Callable[[Latents, float], Latents]
# Fresh unit noise, of the shape of the latents.
NoiseSource: TypeAlias = Callable[[], Latents]
Spacing = Literal["linspace", "leading", "trailing"]


@dataclass(frozen=True)
class Start:
    """Where a drawing starts: from noise alone, or from the latents of a picture with some noise on it.

    Attributes:
        noise: unit noise, (n, c, h, w).
        picture: latents of a picture, broadcast to the noise's shape.
        strength: 0 to 1, the share of the noising that the picture goes through; 1 leaves next to nothing of it.
    """

    noise: Latents
    picture: Latents | None = None
    strength: float = 1.0

    def left_out(self, steps: int) -> int:
        """How many of `steps` steps are spared because the drawing starts from a picture.

        Source: Meng et al. (SDEdit), arXiv 2108.01073.

        Raises:
            ValueError: all of them.
        """
        if self.picture is None:
            return 0
        left = min(int(steps * self.strength), steps)
        if left < 1:
            raise ValueError(f"{steps} steps at strength {self.strength:g} are none: take more of either.")
        return steps - left

    def at(self, alpha: float) -> Latents:
        """The latents x_t at the level of noise where the drawing starts."""
        if self.picture is None:
            return self.noise
        return np.float32(sqrt(alpha)) * self.picture + np.float32(sqrt(1 - alpha)) * self.noise


class Scheduler(Protocol):
    """Yields the latents after each step: `steps` of them, less those that `start` spares."""

    def __call__(
        self, denoise: Denoise, start: Start, schedule: NoiseSchedule, steps: int, fresh_noise: NoiseSource
    ) -> Iterator[Latents]: ...


class _Config(msgspec.Struct, frozen=True):
    """The part of scheduler_config.json that is used; names and defaults are those of diffusers' DDIMScheduler.

    One default differs: StableDiffusionPipeline turns clip_sample off whenever a file leaves it out.
    """

    num_train_timesteps: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    beta_start: Annotated[float, Meta(gt=0, lt=1)] = 1e-4
    beta_end: Annotated[float, Meta(gt=0, lt=1)] = 0.02
    beta_schedule: Literal["linear", "scaled_linear"] = "linear"
    prediction_type: Literal["epsilon", "v_prediction"] = "epsilon"
    timestep_spacing: Spacing | None = None
    steps_offset: Annotated[int, Meta(ge=0, le=1000)] = 0
    set_alpha_to_one: bool = True
    clip_sample: bool = False
    clip_sample_range: Annotated[float, Meta(gt=0)] = 1.0
    original_inference_steps: Annotated[int, Meta(ge=1, le=1000)] = 50
    timestep_scaling: Annotated[float, Meta(gt=0)] = 10.0
    # Refused unless they are as here.
    trained_betas: None = None
    rescale_betas_zero_snr: Literal[False] | None = False
    thresholding: Literal[False] | None = False
    use_karras_sigmas: Literal[False] | None = False
    use_exponential_sigmas: Literal[False] | None = False
    use_beta_sigmas: Literal[False] | None = False
    use_lu_lambdas: Literal[False] | None = False
    use_flow_sigmas: Literal[False] | None = False


@dataclass(frozen=True)
class NoiseSchedule:
    """How much noise there is at each trained timestep, and what the model predicts.

    Attributes:
        alphas: (timesteps,) share of the signal in the variance, falling from about 1 to about 0.
        final_alpha: the same after the last step.
        prediction: "epsilon" (the noise) or "v_prediction" (sqrt(alpha) noise - sqrt(1 - alpha) x_0).
        spacing: which trained timesteps are visited; None leaves it to the scheduler.
        offset: added to timesteps spaced "leading".
        clip: predicted x_0 are limited to -clip..clip; None is no limit.
        distilled_steps, timestep_scaling: of LCM.
    """

    alphas: npt.NDArray[np.float64]
    final_alpha: float
    prediction: Literal["epsilon", "v_prediction"]
    spacing: Spacing | None
    offset: int
    clip: float | None
    distilled_steps: int
    timestep_scaling: float

    @classmethod
    def from_json(cls, data: bytes) -> NoiseSchedule:
        """Read a scheduler_config.json.

        Raises:
            BundleError: not such a file, or it asks for something that these schedulers cannot do.
        """
        try:
            config = msgspec.json.decode(data, type=_Config)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BundleError(
                f"The base model's scheduler_config.json cannot be used: {str(error)[:500]}. Supported are linear and "
                "scaled_linear betas, epsilon and v_prediction, and no rescaled or Karras-like noise levels."
            ) from error
        power = 0.5 if config.beta_schedule == "scaled_linear" else 1.0
        betas = np.linspace(config.beta_start**power, config.beta_end**power, config.num_train_timesteps) ** (1 / power)
        alphas = np.cumprod(1 - betas, dtype=np.float64)
        return cls(
            alphas=alphas,
            final_alpha=1.0 if config.set_alpha_to_one else float(alphas[0]),
            prediction=config.prediction_type,
            spacing=config.timestep_spacing,
            offset=config.steps_offset,
            clip=config.clip_sample_range if config.clip_sample else None,
            distilled_steps=min(config.original_inference_steps, config.num_train_timesteps),
            timestep_scaling=config.timestep_scaling,
        )

    @property
    def length(self) -> int:
        """Number of trained timesteps."""
        return len(self.alphas)

    def sigmas(self, timesteps: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Noise over signal, sqrt((1 - alpha) / alpha), interpolated between the trained timesteps; 0 appended."""
        trained = np.sqrt((1 - self.alphas) / self.alphas)
        return np.append(np.interp(timesteps, np.arange(self.length), trained), 0.0)

    def timesteps(self, steps: int, default: Spacing, *, beyond: int = 0) -> npt.NDArray[np.float64]:
        """The (steps,) timesteps to visit, falling, not rounded when spaced "linspace".

        beyond: how many points to space out after the last one without visiting them ("linspace" and "leading").

        Source: Lin et al., arXiv 2305.08891, table 2.
        """
        if not 1 <= steps <= self.length:
            raise ValueError(f"steps must be between 1 and {self.length}, not {steps}.")
        spacing, points = self.spacing or default, steps + beyond
        if spacing == "trailing":
            found = np.arange(self.length, 0, -self.length / steps).round() - 1
        elif spacing == "leading":
            found = (np.arange(points) * (self.length // points) + self.offset)[::-1].astype(np.float64)
        else:
            found = np.linspace(0, self.length - 1, points)[::-1]
        visited: npt.NDArray[np.float64] = np.clip(found[:steps], 0, self.length - 1)
        return visited

    def split(self, predicted: Latents, x: Latents, alpha: float) -> tuple[Latents, Latents]:
        """(x_0, noise) that the model sees in x, given what it predicts there."""
        signal, spread = np.float32(sqrt(alpha)), np.float32(sqrt(1 - alpha))
        if self.prediction == "v_prediction":
            return signal * x - spread * predicted, signal * predicted + spread * x
        return (x - spread * predicted) * np.float32(1 / sqrt(alpha)), predicted

    def limit(self, x_0: Latents) -> Latents:
        """x_0 within the limits that the base model states."""
        return x_0 if self.clip is None else x_0.clip(-self.clip, self.clip)
