"""Sums of answers with noise, taken apart and checked: a sum in which masks are left is taken for none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coordinator.methods.clustering.evidence import Matrix
from edge_sdk.errors import MasksLeft
from edge_sdk.privacy import COUNTED, DIMENSIONS, GRAIN, UPPER, Question
from edge_sdk.secure_aggregation import check_devices

# Standard deviations that noise does not reach: by chance less often than once in 10^33 numbers.
_BEYOND = 12.0


@dataclass(frozen=True)
class Sum:
    """The unmasked sum of answers to a question.

    Attributes:
        devices: number of devices.
        total: (question.words,) the sum, modulo 2^32.
        variance: of the noise in each number of it.
    """

    devices: int
    total: npt.NDArray[np.uint32]
    variance: int


@dataclass(frozen=True)
class Places:
    """Devices at each centroid, and their codes, with noise.

    Attributes:
        counts: (slots,) number of devices.
        totals: (slots, DIMENSIONS) sum of their codes about the question's centre, cut, in its lengths.
        deviation: (slots,) standard deviation of the noise in a number of `totals`; of `counts` it is twice as large.
    """

    counts: Matrix
    totals: Matrix
    deviation: Matrix


def spread(question: Question, found: Sum) -> Matrix:
    """Return the covariance (DIMENSIONS, DIMENSIONS) of the codes about the question's centre, cut, in its lengths.

    Raises:
        MasksLeft: answers of so many devices cannot have this sum.
        ConfigurationError: the sum of so many devices can overflow.
    """
    numbers = _numbers(question, found)
    _check_counts(found, numbers[:1])
    products = np.zeros((DIMENSIONS, DIMENSIONS))
    products[UPPER] = numbers[1:] / (GRAIN * found.devices)
    products += np.triu(products, 1).T
    products[~np.eye(DIMENSIONS, dtype=bool)] /= np.sqrt(2)
    return products


def places(question: Question, found: Sum) -> Places:
    """Return the devices at each centroid; raises as `spread`."""
    rows = _numbers(question, found).reshape(-1, 1 + DIMENSIONS)
    _check_counts(found, rows[:, 0])
    deviation = np.full(len(rows), found.variance**0.5 / GRAIN)
    return Places(rows[:, 0] / COUNTED, rows[:, 1:] / GRAIN, deviation)


def _numbers(question: Question, found: Sum) -> Matrix:
    check_devices(found.devices)
    if found.total.dtype != np.uint32 or found.total.shape != (question.words,):
        raise _no_sum(found, f"{found.total.shape} numbers of the type {found.total.dtype}, not {question.words} words")
    numbers: Matrix = found.total.view(np.int32).astype(np.float64)
    most = found.devices * GRAIN + _BEYOND * found.variance**0.5
    if np.abs(numbers).max() > most:
        raise _no_sum(found, "of codes beyond the public radius")
    return numbers


def _check_counts(found: Sum, counts: Matrix) -> None:
    most = _BEYOND * (found.variance * len(counts)) ** 0.5
    if abs(counts.sum() - COUNTED * found.devices) > most:
        raise _no_sum(found, f"of {counts.sum() / COUNTED:.0f} devices")


def _no_sum(found: Sum, why: str) -> MasksLeft:
    return MasksLeft(
        f"A sum of {found.devices} devices' answers with noise is one {why}: masks are left in it, or somebody has "
        "sent another vector in a device's name. The question has to be asked again."
    )
