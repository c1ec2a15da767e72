"""Switch: the adapters take turns. Source: Zhong et al. (LoRA Switch), arXiv 2402.16843."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edge_sdk.inference.adapters.hybrids.base import Branch, Step, Terms, feeds_apart
from edge_sdk.inference.bundle import Slot


def switch(terms: Terms, slots: Mapping[str, Slot], steps: range) -> Iterator[Step]:
    """Draw each step with the next adapter alone, at its own weight, in the given order; one run at each step.

    In the paper, an adapter's turn lasts several of its hundreds of steps. Here a turn is one step, since a drawing of
    4 to 25 steps is too short for longer turns.

    With step reuse, every adapter uses the deep features of its own last whole run, and runs whole at every n-th of its
    turns.
    """
    turns = [Step([Branch(feed, number)]) for number, feed in enumerate(feeds_apart(terms, slots))]
    return (turns[turn % len(turns)] for turn in range(len(steps)))
