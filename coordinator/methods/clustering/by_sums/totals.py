"""Sums of devices' answers, taken apart and checked: a sum in which masks are left is taken for none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_sdk.errors import MasksLeft
from edge_sdk.privacy import DIMENSIONS, SILHOUETTE, STEPS, UPPER, Integers, Question
from edge_sdk.secure_aggregation import check_devices


@dataclass(frozen=True)
class Spread:
    """Sum of all answers to a question for the spread.

    Attributes:
        devices: number of devices.
        total: (DIMENSIONS,) sum of their codes.
        products: (DIMENSIONS, DIMENSIONS) sum of the products of each code's numbers.
    """

    devices: int
    total: Integers
    products: Integers


@dataclass(frozen=True)
class Counts:
    """Sum of all answers about one trial.

    Attributes:
        counts: (slots,) number of devices in each slot.
        silhouette: sum of the devices' silhouettes, in parts of `SILHOUETTE`.
    """

    counts: Integers
    silhouette: int


@dataclass(frozen=True)
class Places:
    """The same of the codes in each slot.

    Attributes:
        counts: (slots,) number of devices in each slot.
        totals: (slots, DIMENSIONS) sum of their codes.
    """

    counts: Integers
    totals: Integers


def signed(question: Question, devices: int, total: npt.NDArray[np.uint32]) -> Integers:
    """Return a sum of so many answers as signed numbers.

    Raises:
        ConfigurationError: the sum of so many devices can overflow.
        MasksLeft: it has another length, or is no array of words.
    """
    check_devices(devices)
    if total.dtype != np.uint32 or total.shape != (question.words,):
        raise _no_sum(devices, f"{total.shape} numbers of the type {total.dtype}, not {question.words} words")
    return total.view(np.int32).astype(np.int64)


def spread(question: Question, devices: int, total: npt.NDArray[np.uint32]) -> Spread:
    """Return the spread; see `signed`, and MasksLeft if codes cannot have such sums."""
    numbers = signed(question, devices, total)
    found, products = numbers[1 : 1 + DIMENSIONS], np.zeros((DIMENSIONS, DIMENSIONS), np.int64)
    products[UPPER] = numbers[1 + DIMENSIONS :]
    products += np.triu(products, 1).T
    squares = np.diag(products)
    if numbers[0] != devices:
        raise _no_sum(devices, f"of {numbers[0]} devices")
    # Cauchy and Schwarz; squares are at least as large as the numbers that they are of.
    if (found**2 > devices * squares).any() or (np.abs(found) > squares).any() or squares.max() > devices * STEPS**2:
        raise _no_sum(devices, "of squares that are too small or too large")
    return Spread(devices, found, products)


def counts(question: Question, devices: int, total: npt.NDArray[np.uint32]) -> list[Counts]:
    """Return the counts of each trial; see `signed`, and MasksLeft if they are not of so many devices."""
    numbers = signed(question, devices, total)
    slots = sum(question.slot_counts)
    silhouettes = numbers[slots:]
    if (np.abs(2 * silhouettes - devices * SILHOUETTE) > devices * SILHOUETTE).any():
        raise _no_sum(devices, "of silhouettes below 0 or above 1")
    return [
        Counts(part, int(silhouette))
        for part, silhouette in zip(_of_trials(question, devices, numbers[:slots]), silhouettes, strict=True)
    ]


def places(question: Question, devices: int, total: npt.NDArray[np.uint32]) -> list[Places]:
    """Return the sums of each trial; see `signed`, and MasksLeft if they are not of so many devices' codes."""
    rows = signed(question, devices, total).reshape(-1, 1 + DIMENSIONS)
    if (np.abs(rows[:, 1:]) > STEPS * rows[:, :1]).any():
        raise _no_sum(devices, "of codes beyond the public radius")
    parts = _of_trials(question, devices, rows[:, 0])
    totals = np.split(rows[:, 1:], np.cumsum(question.slot_counts)[:-1])
    return [Places(part, codes) for part, codes in zip(parts, totals, strict=True)]


def _of_trials(question: Question, devices: int, numbers: Integers) -> Iterator[Integers]:
    """Yield the counts of each trial, which are of all devices."""
    for part in np.split(numbers, np.cumsum(question.slot_counts)[:-1]):
        if part.min() < 0 or part.sum() != devices:
            raise _no_sum(devices, f"of {part.tolist()} devices")
        yield part


def _no_sum(devices: int, found: str) -> MasksLeft:
    return MasksLeft(
        f"A sum of {devices} devices' answers is one {found}: masks are left in it, or somebody has sent another "
        "vector in a device's name. The question has to be asked again."
    )
