"""The noise schedule that a base model was trained with, read from its scheduler_config.json."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Annotated, Literal, Protocol, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from edge_sdk.errors import BundleError
from edge_sdk.inference.bundle import MODEL_INDEX, read_config

Latents: TypeAlias = npt.NDArray[np.float32]
# Fresh unit noise, of the shape of the latents.
NoiseSource: TypeAlias = Callable[[], Latents]
Spacing = Literal["linspace", "leading", "trailing"]
_LEAST_SIGNAL = 2.0**-24
# Unit noise stays below 6, guidance multiplies a prediction by some tens.
_LARGEST = 1000.0


@dataclass(frozen=True, eq=False)
class SolverState:
    """All that a scheduler needs to go on after a step.

    Attributes:
        latents: (n, c, h, w), as the scheduler yields them.
        previous: the x_0 that the model predicted at the last step, of the same shape; only "dpm++" has it, which
            extrapolates from it.
    """

    latents: Latents
    previous: Latents | None = None


@dataclass(frozen=True)
class Start:
    """Starting point of a drawing: noise alone, a picture's latents with some noise added, or a drawing's state.

    Attributes:
        noise: unit noise, (n, c, h, w).
        picture: latents of a picture, broadcast to the noise's shape; None starts from noise alone.
        strength: 0 to 1, the share of the noising that the picture goes through; 1 leaves next to nothing of it.
        done: number of steps, counted from noise alone, that `state` is behind.
        state: the state to go on from; None begins.
    """

    noise: Latents
    picture: Latents | None = None
    strength: float = 1.0
    done: int = 0
    state: SolverState | None = None

    def skipped_steps(self, steps: int) -> int:
        """Number of the first steps, of `steps`, that are left out: for a picture, or because they are done.

        Source: Meng et al. (SDEdit), arXiv 2108.01073.

        Raises:
            ValueError: no step would be left.
        """
        if self.state is not None:
            if not 1 <= self.done < steps:
                raise ValueError(f"After {self.done} steps of {steps} there is nothing to go on with.")
            return self.done
        if self.picture is None:
            return 0
        left = min(int(steps * self.strength), steps)
        if left < 1:
            raise ValueError(f"{steps} steps at strength {self.strength:g} are none: take more of either.")
        return steps - left

    def at(self, alpha: float) -> Latents:
        """Latents x_t at the noise level `alpha`, at which the drawing starts or goes on."""
        if self.state is not None:
            return self.state.latents
        if self.picture is None:
            return self.noise
        return np.float32(sqrt(alpha)) * self.picture + np.float32(sqrt(1 - alpha)) * self.noise


@dataclass(frozen=True, eq=False)
class Point:
    """A point at which a scheduler wants the model's prediction: latents x (n, c, h, w) at a trained timestep t."""

    x: Latents
    t: float


Solving: TypeAlias = Generator[Point | SolverState, Latents, None]
"""A scheduler at work. For each step it yields a `Point`, is sent the model's prediction there, and yields its state.

So whoever runs it may gather the points of several drawings for one run of the model.
"""


class Scheduler(Protocol):
    """A function that solves `steps` steps, without those that `start` omits; `solved` runs it for one drawing.

    From any of its states it goes on as if it had never stopped, bit for bit. `fresh_noise` then begins anew, with
    the noise of the first step.
    """

    def __call__(self, start: Start, schedule: NoiseSchedule, steps: int, fresh_noise: NoiseSource) -> Solving: ...


def next_point(solving: Solving) -> Point | None:
    """The point of the next step; None at the end. To be called at the start and after each state."""
    point = next(solving, None)
    assert point is None or isinstance(point, Point), "a scheduler yields points and states in turn"
    return point


def state_after(solving: Solving, predicted: Latents) -> SolverState:
    """The state after a step. predicted: the model's prediction at the last point."""
    state = solving.send(predicted)
    assert isinstance(state, SolverState), "a scheduler yields points and states in turn"
    return state


def solved(solving: Solving, predict: Callable[[Point], Latents]) -> Iterator[SolverState]:
    """The states after each step of one drawing. predict: the model."""
    while (point := next_point(solving)) is not None:
        yield state_after(solving, predict(point))


_Betas: TypeAlias = Literal["linear", "scaled_linear"]
_USUAL: tuple[float, float, _Betas] = (1e-4, 0.02, "linear")
# Schedulers of diffusers whose models can be drawn with -> (beta_start, beta_end, beta_schedule) that each takes if a
# file states none. The class itself is only a preference for sampling. Other classes, such as those of EDM and flow
# matching, mean that the model was trained differently.
CLASSES: Mapping[str, tuple[float, float, _Betas]] = {
    **dict.fromkeys(
        (
            "DDIMScheduler", "DDIMParallelScheduler", "DDPMScheduler", "DDPMParallelScheduler",
            "DEISMultistepScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler",
            "EulerAncestralDiscreteScheduler", "EulerDiscreteScheduler", "LMSDiscreteScheduler", "PNDMScheduler",
            "SASolverScheduler", "UniPCMultistepScheduler",
        ),
        _USUAL,
    ),
    **dict.fromkeys(
        (
            "DPMSolverSDEScheduler", "HeunDiscreteScheduler", "KDPM2AncestralDiscreteScheduler",
            "KDPM2DiscreteScheduler",
        ),
        (0.00085, 0.012, "linear"),
    ),
    **dict.fromkeys(("LCMScheduler", "TCDScheduler"), (0.00085, 0.012, "scaled_linear")),
}  # fmt: skip


class _Config(msgspec.Struct, frozen=True):
    """The part of scheduler_config.json that is used; names and defaults are those of diffusers' DDIMScheduler.

    One default differs: StableDiffusionPipeline turns clip_sample off whenever a file leaves it out.
    """

    class_name: str | None = msgspec.field(default=None, name="_class_name")
    num_train_timesteps: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    beta_start: Annotated[float, Meta(gt=0, lt=1)] | None = None
    beta_end: Annotated[float, Meta(gt=0, lt=1)] | None = None
    beta_schedule: _Betas | None = None
    prediction_type: Literal["epsilon", "v_prediction"] = "epsilon"
    timestep_spacing: Spacing | None = None
    steps_offset: Annotated[int, Meta(ge=0, le=1000)] = 0
    set_alpha_to_one: bool = True
    clip_sample: bool = False
    clip_sample_range: Annotated[float, Meta(gt=0)] = 1.0
    rescale_betas_zero_snr: bool | None = False
    original_inference_steps: Annotated[int, Meta(ge=1, le=1000)] = 50
    timestep_scaling: Annotated[float, Meta(gt=0)] = 10.0
    # Other values are refused: they change the noise that the model was trained with, or what it predicts. Fields that
    # choose the noise levels to visit (use_karras_sigmas and its like) or the solver are preferences, and ignored.
    trained_betas: None = None
    thresholding: Literal[False] | None = False
    use_flow_sigmas: Literal[False] | None = False
    timestep_type: Literal["discrete"] | None = None
    variance_type: Literal["fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"] | None = None


@dataclass(frozen=True)
class NoiseSchedule:
    """Noise at each trained timestep, and the quantity that the model predicts.

    Attributes:
        alphas: (timesteps,) share of the signal in the variance, falling from about 1 to about 0.
        final_alpha: that share after the last step.
        prediction: "epsilon" (the noise) or "v_prediction" (sqrt(alpha) noise - sqrt(1 - alpha) x_0).
        spacing: which trained timesteps are visited; None leaves it to the scheduler.
        offset: added to timesteps spaced "leading".
        clip: predicted x_0 are limited to -clip..clip; None is no limit.
        distilled_steps: number of timesteps that LCM's distillation used.
        timestep_scaling: factor of the timestep in LCM's c_skip and c_out.
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
    def of_model(cls, folder: Path) -> NoiseSchedule:
        """Read the noise schedule of a diffusers folder or of a bundle.

        The scheduler's class is the one in model_index.json, if it states one, as in diffusers.

        Raises:
            BundleError: there is no schedule, or it cannot be used; see `from_json`.
        """
        file = folder / "scheduler" / "scheduler_config.json"
        index = read_config(folder / MODEL_INDEX) if (folder / MODEL_INDEX).is_file() else {}
        stated = index.get("scheduler")
        named = stated[1] if isinstance(stated, list) and len(stated) == 2 and isinstance(stated[1], str) else None
        try:
            return cls.from_json(file.read_bytes(), named)
        except OSError as error:
            raise BundleError(
                f"{file} cannot be read ({error.strerror}), and nothing else says what noise the base model was "
                "trained with: fetch the base model again."
            ) from error

    @classmethod
    def from_json(cls, data: bytes, named: str | None = None) -> NoiseSchedule:
        """Read the content of a scheduler_config.json.

        named: diffusers' class for it, if that is stated elsewhere.

        Raises:
            BundleError: it is no such file, or asks for something that these schedulers cannot do.
        """
        try:
            config = msgspec.json.decode(data, type=_Config)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BundleError(
                f"The base model's scheduler_config.json cannot be used: {str(error)[:500]}. Supported are linear and "
                "scaled_linear betas, epsilon and v_prediction, at discrete timesteps, and no rescaled noise levels."
            ) from error
        for name in (named, config.class_name):
            if name is not None and name not in CLASSES:
                raise BundleError(
                    f"The base model's scheduler_config.json cannot be used: a {name[:100]} means a model that was "
                    f"trained with other noise than Stable Diffusion's. Supported are {', '.join(CLASSES)}."
                )
        start, end, kind = CLASSES.get(named or config.class_name or "", _USUAL)
        start, end = config.beta_start or start, config.beta_end or end
        power = 0.5 if (config.beta_schedule or kind) == "scaled_linear" else 1.0
        betas = np.linspace(start**power, end**power, config.num_train_timesteps) ** (1 / power)
        alphas = np.cumprod(1 - betas, dtype=np.float64)
        if config.rescale_betas_zero_snr:
            alphas = _without_signal_at_the_end(alphas, config.prediction_type)
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
    def id(self) -> str:
        """Hash of all that decides what a step computes: drawings go on only under a schedule of the same one."""
        alphas = ",".join(f"{alpha:.6g}" for alpha in self.alphas[:: max(1, self.length // 10)])
        others = (
            self.length, f"{self.final_alpha:.6g}", self.prediction, self.spacing, self.offset, self.clip,
            self.distilled_steps, self.timestep_scaling,
        )  # fmt: skip
        return hashlib.sha256(f"{alphas};{others}".encode()).hexdigest()[:16]

    @property
    def largest(self) -> float:
        """The largest number that latents, or an x_0, of a drawing that makes sense can hold.

        An x_0 is the model's error over sqrt(alpha), and Euler's latents are noise over it: at the noisiest timestep.
        """
        return _LARGEST / sqrt(max(float(self.alphas.min()), _LEAST_SIGNAL))

    @property
    def length(self) -> int:
        """Number of trained timesteps."""
        return len(self.alphas)

    def sigmas(self, timesteps: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Noise over signal, sqrt((1 - alpha) / alpha), interpolated between the trained timesteps; 0 is appended.

        Without any signal it is 4096, as in diffusers.
        """
        alphas = np.maximum(self.alphas, _LEAST_SIGNAL)
        trained = np.sqrt((1 - alphas) / alphas)
        return np.append(np.interp(timesteps, np.arange(self.length), trained), 0.0)

    def timesteps(self, steps: int, default: Spacing, *, extra_points: int = 0) -> npt.NDArray[np.float64]:
        """Timesteps to visit, (steps,), falling; not rounded when spaced "linspace".

        extra_points: number of points after the last one that are spaced out but not visited ("linspace", "leading").

        Source: Lin et al., arXiv 2305.08891, table 2.
        """
        if not 1 <= steps <= self.length:
            raise ValueError(f"steps must be between 1 and {self.length}, not {steps}.")
        spacing, points = self.spacing or default, steps + extra_points
        if spacing == "trailing":
            found = np.arange(self.length, 0, -self.length / steps).round() - 1
        elif spacing == "leading":
            found = (np.arange(points) * (self.length // points) + self.offset)[::-1].astype(np.float64)
        else:
            found = np.linspace(0, self.length - 1, points)[::-1]
        visited: npt.NDArray[np.float64] = np.clip(found[:steps], 0, self.length - 1)
        return visited

    def split(self, predicted: Latents, x: Latents, alpha: float) -> tuple[Latents, Latents]:
        """The model's x_0 and noise at x, computed from its prediction there."""
        signal, spread = np.float32(sqrt(alpha)), np.float32(sqrt(1 - alpha))
        if self.prediction == "v_prediction":
            return signal * x - spread * predicted, signal * predicted + spread * x
        return (x - spread * predicted) * np.float32(1 / sqrt(alpha)), predicted

    def limit(self, x_0: Latents) -> Latents:
        """x_0 within the limits that the base model states."""
        return x_0 if self.clip is None else x_0.clip(-self.clip, self.clip)


def _without_signal_at_the_end(alphas: npt.NDArray[np.float64], prediction: str) -> npt.NDArray[np.float64]:
    """Rescale alphas so that the last timestep is noise alone, and the first one stays as it is.

    Source: Lin et al., arXiv 2305.08891, algorithm 1.
    """
    if prediction == "epsilon":
        raise BundleError(
            "The base model's scheduler_config.json cannot be used: with rescale_betas_zero_snr there is nothing but "
            "noise at the last timestep, so that a model which predicts epsilon tells nothing there. Such models "
            "predict v_prediction: is the file the model's own?"
        )
    signal = np.sqrt(alphas)
    if not signal[0] > signal[-1]:
        raise BundleError(
            "The base model's scheduler_config.json cannot be used: a single timestep cannot be rescaled."
        )
    rescaled: npt.NDArray[np.float64] = ((signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])) ** 2
    return rescaled
