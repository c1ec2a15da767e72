"""Euler's method on the probability-flow ODE. Source: Karras et al., arXiv 2206.00364, algorithm 2 without churn.

Twin of diffusers' EulerDiscreteScheduler.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from edge_sdk.inference.sampling.schedulers.noise import NoiseSchedule, NoiseSource, Point, SolverState, Solving, Start


def euler(start: Start, schedule: NoiseSchedule, steps: int, fresh_noise: NoiseSource) -> Solving:
    """y <- y + (sigma' - sigma) noise, since y = x / sqrt(alpha) = x_0 + sigma noise and dy / dsigma = noise.

    Yields y, which ends as x_0. Timesteps may lie between trained ones.
    """
    timesteps = schedule.timesteps(steps, "linspace")[start.skipped_steps(steps) :]
    sigmas = schedule.sigmas(timesteps)
    if start.state is not None:
        y = start.state.latents
    elif start.picture is None:
        # Timesteps spaced "leading" do not start at pure noise: y gets the variance sigma^2 + 1 of signal and noise.
        y = start.noise * float((sigmas[0] ** 2 + (schedule.spacing == "leading")) ** 0.5)
    else:
        y = start.picture + start.noise * np.float32(sigmas[0])
    for t, (sigma, after) in zip(timesteps.tolist(), pairwise(sigmas.tolist()), strict=True):
        alpha = 1 / (sigma**2 + 1)
        x = alpha**0.5 * y
        _, epsilon = schedule.split((yield Point(x, t)), x, alpha)
        y = y + (after - sigma) * epsilon
        yield SolverState(y)
