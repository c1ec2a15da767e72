"""From noise to latents, in numpy.

A scheduler is a function: it takes a `Start` and a `NoiseSchedule`, and yields in turn a point at which it wants the
model's prediction, and its state after that step.
To add one, write it in a file of its own and give it a name below.

Throughout, x_t = sqrt(alpha_t) x_0 + sqrt(1 - alpha_t) noise, with alpha_t the cumulative product that diffusers calls
`alphas_cumprod`. Every scheduler equals its twin in diffusers over whole trajectories
(tests/inference/test_schedulers.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from edge_sdk.inference.sampling.schedulers.ddim import ddim
from edge_sdk.inference.sampling.schedulers.dpm import dpm_solver_2m
from edge_sdk.inference.sampling.schedulers.euler import euler
from edge_sdk.inference.sampling.schedulers.lcm import lcm
from edge_sdk.inference.sampling.schedulers.noise import (
    Latents,
    NoiseSchedule,
    NoiseSource,
    Point,
    Scheduler,
    SolverState,
    Solving,
    Start,
    next_point,
    solved,
    state_after,
)

SCHEDULERS: Mapping[str, Scheduler] = MappingProxyType(
    {
        "ddim": ddim,
        "dpm++": dpm_solver_2m,
        "euler": euler,
        "lcm": lcm,
    }
)

__all__ = [
    "SCHEDULERS",
    "Latents",
    "NoiseSchedule",
    "NoiseSource",
    "Point",
    "Scheduler",
    "SolverState",
    "Solving",
    "Start",
    "next_point",
    "solved",
    "state_after",
]
