"""The interface of hybrids: for each step, the UNet's runs, and the function that combines their predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from edge_sdk.adapter import Adapter
from edge_sdk.inference.adapters.mixing import Feed, to_feed
from edge_sdk.inference.bundle import Slot

# Adapters, each with the weight that its product B A is multiplied by.
Terms: TypeAlias = Sequence[tuple[Adapter, float]]
Latents: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Branch:
    """A run of the UNet at one step.

    Attributes:
        feed: the adapters, as inputs.
        number: with step reuse, a branch uses the deep features that the branch of the same number computed earlier.
        prompted: True if it predicts with the prompt.
        unprompted: True if it predicts without the prompt under guidance; both takes twice as long as one.
    """

    feed: Feed
    number: int = 0
    prompted: bool = True
    unprompted: bool = True


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of a step's branches, latents (n, c, h, w) each.

    Attributes:
        prompted: with the prompt, of the branches that predict it, in their order.
        unprompted: without the prompt, of the branches that predict it, in their order; none without guidance.
        guidance: the guidance scale, the weight of prompted minus unprompted; 1 without guidance.
    """

    prompted: Sequence[Latents]
    unprompted: Sequence[Latents]
    guidance: float


Combine: TypeAlias = Callable[[Predictions], Latents]


def average(found: Predictions) -> Latents:
    """The mean of the branches' guided predictions, which is the guided prediction of their means."""
    return guided(mean(found.prompted), found)


def guided(prompted: Latents, found: Predictions) -> Latents:
    """One prompted prediction, guided away from the mean of those without a prompt."""
    if not found.unprompted:
        return prompted
    without = mean(found.unprompted)
    return without + np.float32(found.guidance) * (prompted - without)


def mean(predictions: Sequence[Latents]) -> Latents:
    """Mean of several predictions; a single one is returned unchanged, to the last bit."""
    if len(predictions) == 1:
        return predictions[0]
    total = predictions[0] * np.float32(1 / len(predictions))
    for predicted in predictions[1:]:
        total += np.float32(1 / len(predictions)) * predicted
    return total


@dataclass(frozen=True, eq=False)
class Step:
    """One step of a drawing.

    Attributes:
        branches: the UNet's runs.
        combine: makes one prediction of the branches'.
    """

    branches: Sequence[Branch]
    combine: Combine = field(default=average)


class Hybrid(Protocol):
    """A function that yields a `Step` for every number in `steps`, in order.

    `steps` counts the steps of a whole drawing from 0; a drawing from a picture leaves out the first ones, and
    `steps.stop` is always the length of a whole drawing. Arrays are prepared once, not at every step.

    Raises:
        HybridUnsupported: it cannot combine these adapters.
    """

    def __call__(self, terms: Terms, slots: Mapping[str, Slot], steps: range) -> Iterator[Step]: ...


def active(terms: Terms) -> Terms:
    """The adapters whose weight is not 0; the others get no turn, no run and no choice."""
    return [(adapter, weight) for adapter, weight in terms if weight != 0]


def feeds_apart(terms: Terms, slots: Mapping[str, Slot]) -> list[Feed]:
    """The UNet's adapter inputs for each active adapter; without any, those of the base model alone."""
    return [to_feed([term], slots) for term in active(terms)] or [{}]
