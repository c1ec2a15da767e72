"""DDIM without added noise. Source: Song et al., arXiv 2010.02502, equation 12; twin of diffusers' DDIMScheduler."""

from __future__ import annotations

from edge_sdk.inference.sampling.schedulers.noise import NoiseSchedule, NoiseSource, Point, SolverState, Solving, Start


def ddim(start: Start, schedule: NoiseSchedule, steps: int, fresh_noise: NoiseSource) -> Solving:
    """x <- sqrt(alpha') x_0 + sqrt(1 - alpha') noise, with the x_0 and the noise that the model predicts at x."""
    timesteps = schedule.timesteps(steps, "leading").round().astype(int)[start.skipped_steps(steps) :]
    x, stride = start.at(schedule.alphas[timesteps[0]]), schedule.length // steps
    for t in timesteps.tolist():
        x_0, epsilon = schedule.split((yield Point(x, t)), x, schedule.alphas[t])
        alpha = float(schedule.alphas[t - stride]) if t >= stride else schedule.final_alpha
        x = alpha**0.5 * schedule.limit(x_0) + (1 - alpha) ** 0.5 * epsilon
        yield SolverState(x)
