"""DPM-Solver++ (2M). Source: Lu et al., arXiv 2211.01095, algorithm 2.

Twin of diffusers' DPMSolverMultistepScheduler with its defaults: order 2, midpoint, last step of order 1.
"""

from __future__ import annotations

from itertools import pairwise
from math import log

from edge_sdk.inference.sampling.schedulers.noise import NoiseSchedule, NoiseSource, Point, SolverState, Solving, Start


def dpm_solver_2m(start: Start, schedule: NoiseSchedule, steps: int, fresh_noise: NoiseSource) -> Solving:
    """x <- (s' / s) x - a' (exp(-h) - 1) D, where a = sqrt(alpha), s = sqrt(1 - alpha) and h is the step in log(a / s).

    D is the model's x_0, extrapolated by half a step with the previous one; the first and the last step use x_0 alone.
    """
    skipped = start.skipped_steps(steps)
    all_timesteps = schedule.timesteps(steps, "linspace", extra_points=1).round()
    all_sigmas = schedule.sigmas(all_timesteps)
    timesteps, sigmas = all_timesteps[skipped:], all_sigmas[skipped:]
    x, previous, previous_h = start.at(1 / (sigmas[0] ** 2 + 1)), None, 0.0
    if start.state is not None:
        previous, previous_h = start.state.previous, log(all_sigmas[skipped - 1] / sigmas[0])
    for t, (sigma, after) in zip(timesteps.astype(int).tolist(), pairwise(sigmas.tolist()), strict=True):
        alpha, alpha_after = 1 / (sigma**2 + 1), 1 / (after**2 + 1)
        x_0, _ = schedule.split((yield Point(x, t)), x, alpha)
        direction = x_0
        # log(a / s) = -log(sigma), so exp(-h) = after / sigma; the last step has h = infinity.
        if after > 0:
            h = log(sigma / after)
            if previous is not None:
                direction = x_0 + (h / (2 * previous_h)) * (x_0 - previous)
            previous, previous_h = x_0, h
        shrink = (after / sigma) * (alpha_after / alpha) ** 0.5
        x = shrink * x + alpha_after**0.5 * (1 - after / sigma) * direction
        yield SolverState(x, previous)
