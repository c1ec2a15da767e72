"""What a hybrid is: for each step, the branches whose predictions are averaged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from edge_sdk.adapter import Adapter
from edge_sdk.inference.bundle import Slot
from edge_sdk.inference.mixing import Feed, to_feed

# Adapters, each with the weight that its product B A is multiplied by.
Terms: TypeAlias = Sequence[tuple[Adapter, float]]


@dataclass(frozen=True, eq=False)
class Branch:
    """A run of the UNet at one step.

    Attributes:
        feed: the adapters, as inputs.
        share: of its prediction in the step's; those of a step add up to 1.
        number: with step reuse, a branch goes on with the deep features that the branch of the same number computed.
    """

    feed: Feed
    share: float = 1.0
    number: int = 0


class Hybrid(Protocol):
    """Gives the branches of every step in `steps`, in order.

    `steps` are those of a whole drawing, counted from 0, less the first ones that a drawing from a picture spares:
    `steps.stop` is how many a whole one has. Arrays are prepared once, not at every step.

    Raises:
        HybridUnsupported: not with these adapters.
    """

    def __call__(self, terms: Terms, slots: Mapping[str, Slot], steps: range) -> Iterator[Sequence[Branch]]: ...


def active(terms: Terms) -> Terms:
    """Adapters of weight 0 take no part: no turn, no run, no choice."""
    return [(adapter, weight) for adapter, weight in terms if weight != 0]


def feeds_apart(terms: Terms, slots: Mapping[str, Slot]) -> list[Feed]:
    """The feed of each adapter that takes part; without any, that of the base model."""
    return [to_feed([term], slots) for term in active(terms)] or [{}]
