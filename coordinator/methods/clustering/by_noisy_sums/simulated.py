"""Sums with noise of devices whose codes are at hand, for simulations and measurements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coordinator.methods.clustering.by_noisy_sums.totals import Sum
from edge_sdk.privacy import Below, Guarantee, Question, bounded_answer, discrete_gaussian, part_of_noise


def summed_with_noise(
    question: Question, codes: Sequence[bytes], guarantee: Guarantee, honest: int, below: Below
) -> Sum:
    """Return the sum of the answers of all devices.

    The parts of their noise are drawn as one of all parts' variance, which is not told apart from their sum.

    Args:
        question: the question.
        codes: the devices' codes of level "coarse".
        guarantee: the federation's.
        honest: the devices whose parts have to be the whole noise.
        below: source of the noise.
    """
    variance = len(codes) * part_of_noise(question, guarantee, honest)
    exact = np.sum([bounded_answer(question, code) for code in codes], axis=0)
    noise = [discrete_gaussian(variance, below) for _ in range(question.words)]
    return Sum(len(codes), (exact + np.array(noise)).astype(np.uint32), variance)
