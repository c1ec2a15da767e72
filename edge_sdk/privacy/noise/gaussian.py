"""Discrete Gaussian noise, sampled exactly: Canonne, Kamath, Steinke, "The Discrete Gaussian for Differential Privacy",
NeurIPS 2020, algorithms 1 to 3.

Integers only, from the system's generator: no floating point, whose gaps give noise away, and no numpy generator, whose
state can be found out. The noise of many devices adds up to that of their summed variances: beside a standard deviation
of some hundred, what the sum differs from a discrete Gaussian by is less than 2^-1000 (Kairouz, Liu, Steinke, ICML
2021).
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from typing import TypeAlias

Below: TypeAlias = Callable[[int], int]
"""Returns a uniform random integer of 0, ..., n - 1."""


def discrete_gaussian(variance: int, below: Below = secrets.randbelow) -> int:
    """Return an integer x with a probability in proportion to exp(-x^2 / (2 variance)).

    Args:
        variance: an integer of 1 or more; the variance of x is nearly that.
        below: source of randomness; another one than the system's generator is for simulations.
    """
    scale = math.isqrt(variance) + 1
    while True:
        found = _laplace(scale, below)
        # exp(-(|x| - variance / scale)^2 / (2 variance)), as a fraction.
        away = abs(found) * scale - variance
        if _exponential(away * away, 2 * variance * scale * scale, below):
            return found


def _laplace(scale: int, below: Below) -> int:
    """Return an integer x with a probability in proportion to exp(-|x| / scale)."""
    while True:
        part = below(scale)
        if not _exponential(part, scale, below):
            continue
        whole = 0
        while _exponential(1, 1, below):
            whole += 1
        size = part + scale * whole
        negative = below(2)
        if size or not negative:
            return -size if negative else size


def _exponential(numerator: int, denominator: int, below: Below) -> bool:
    """Return True with the probability exp(-numerator / denominator)."""
    while numerator > denominator:
        if not _at_most_one(1, 1, below):
            return False
        numerator -= denominator
    return _at_most_one(numerator, denominator, below)


def _at_most_one(numerator: int, denominator: int, below: Below) -> bool:
    """The same for numerator <= denominator: the first failure in draws of rising difficulty comes at an odd place."""
    place = 1
    while below(denominator * place) < numerator:
        place += 1
    return place % 2 == 1
