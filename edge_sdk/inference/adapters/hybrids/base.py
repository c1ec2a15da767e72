"""What a hybrid is: for each step, the runs of the UNet that it takes, and how one prediction is made of theirs."""

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
        number: with step reuse, a branch goes on with the deep features that the branch of the same number computed.
        unprompted: whether, where there is guidance, it also predicts without the prompt, which takes as long again.
    """

    feed: Feed
    number: int = 0
    unprompted: bool = True


@dataclass(frozen=True, eq=False)
class Predictions:
    """What the branches of a step predict, latents (n, c, h, w) each.

    Attributes:
        prompted: of each branch, in their order.
        unprompted: of the branches that predict it, in their order; none without guidance.
        guidance: how far to go from the latter to the former; 1 without guidance.
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
    """One alone stays what it is, to the last bit."""
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
        combine: makes one prediction of theirs.
    """

    branches: Sequence[Branch]
    combine: Combine = field(default=average)


class Hybrid(Protocol):
    """Gives every step in `steps`, in order.

    `steps` are those of a whole drawing, counted from 0, less the first ones that a drawing from a picture spares:
    `steps.stop` is how many a whole one has. Arrays are prepared once, not at every step.

    Raises:
        HybridUnsupported: not with these adapters.
    """

    def __call__(self, terms: Terms, slots: Mapping[str, Slot], steps: range) -> Iterator[Step]: ...


def active(terms: Terms) -> Terms:
    """Adapters of weight 0 take no part: no turn, no run, no choice."""
    return [(adapter, weight) for adapter, weight in terms if weight != 0]


def feeds_apart(terms: Terms, slots: Mapping[str, Slot]) -> list[Feed]:
    """The feed of each adapter that takes part; without any, that of the base model."""
    return [to_feed([term], slots) for term in active(terms)] or [{}]
