"""Multistep consistency sampling, for base models or adapters distilled by LCM (2 to 8 steps, guidance 1).

Source: Luo et al., arXiv 2310.04378, algorithm 1; twin of diffusers' LCMScheduler.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from edge_sdk.inference.sampling.schedulers.noise import NoiseSchedule, NoiseSource, Point, SolverState, Solving, Start

_SIGMA_DATA = 0.5


def lcm(start: Start, schedule: NoiseSchedule, steps: int, fresh_noise: NoiseSource) -> Solving:
    """x <- sqrt(alpha') f + sqrt(1 - alpha') fresh noise, with f = c_skip x + c_out x_0; the last step gives f itself.

    Timesteps are spread over those that the distillation used, whatever spacing the base model states. A drawing from a
    picture spreads them over those that its noise reaches.

    Raises:
        ValueError: there are more steps than the distillation used.
    """
    if not 1 <= steps <= schedule.distilled_steps:
        raise ValueError(f"steps must be between 1 and {schedule.distilled_steps} for LCM, not {steps}.")
    stride = schedule.length // schedule.distilled_steps
    skipped = start.skipped_steps(steps)
    done = skipped if start.state is not None else 0
    reached = schedule.distilled_steps if start.picture is None else int(schedule.distilled_steps * start.strength)
    distilled = np.arange(reached, 0, -1) * stride - 1
    chosen = np.floor(np.linspace(0, reached, steps - skipped + done, endpoint=False)).astype(int)
    timesteps = distilled[chosen].tolist()[done:]
    x = start.at(schedule.alphas[timesteps[0]])
    for _ in range(done):  # the noise of the steps that are done
        fresh_noise()
    for t, after in pairwise([*timesteps, None]):
        x_0, _ = schedule.split((yield Point(x, t)), x, schedule.alphas[t])
        scaled = t * schedule.timestep_scaling
        c_skip = _SIGMA_DATA**2 / (scaled**2 + _SIGMA_DATA**2)
        c_out = scaled / (scaled**2 + _SIGMA_DATA**2) ** 0.5
        x = c_out * schedule.limit(x_0) + c_skip * x
        if after is not None:
            alpha = float(schedule.alphas[after])
            x = alpha**0.5 * x + (1 - alpha) ** 0.5 * fresh_noise()
        yield SolverState(x)
