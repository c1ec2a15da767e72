"""Noise of level "local+dp": what a device's answers may tell, and how they keep to it.

budget.py    epsilon and delta, and what was spent of them
gaussian.py  discrete Gaussian noise, sampled exactly
answers.py   answers of bounded length, and each device's part of the noise
"""

from __future__ import annotations

from edge_sdk.privacy.noise.answers import (
    COUNTED,
    GRAIN,
    bounded_answer,
    cost,
    length,
    noisy_answer,
    part_of_noise,
)
from edge_sdk.privacy.noise.budget import (
    LARGEST_DELTA,
    LARGEST_EPSILON,
    SMALLEST_EPSILON,
    Guarantee,
    Spent,
    gaussian_epsilon,
    gaussian_mu,
)
from edge_sdk.privacy.noise.gaussian import Below, discrete_gaussian

__all__ = [
    "COUNTED",
    "GRAIN",
    "LARGEST_DELTA",
    "LARGEST_EPSILON",
    "SMALLEST_EPSILON",
    "Below",
    "Guarantee",
    "Spent",
    "bounded_answer",
    "cost",
    "discrete_gaussian",
    "gaussian_epsilon",
    "gaussian_mu",
    "length",
    "noisy_answer",
    "part_of_noise",
]
