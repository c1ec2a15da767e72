"""Composite: the adapters' guidance is averaged. Source: Zhong et al., arXiv 2402.16843."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import repeat

from edge_sdk.inference.adapters.hybrids.base import Branch, Step, Terms, feeds_apart
from edge_sdk.inference.bundle import Slot


def composite(terms: Terms, slots: Mapping[str, Slot], steps: range) -> Iterator[Step]:
    """(1/k) sum_i [e_i(x) + s (e_i(x, prompt) - e_i(x))], e_i being the prediction with adapter i alone at its weight.

    k runs a step. Without guidance (s = 1, or a model that takes the guidance as an input) it is the average of
    e_i(x, prompt). A weight is an adapter's strength as in the other hybrids, so one adapter alone draws what merge
    draws; the average is an even one.
    """
    feeds = feeds_apart(terms, slots)
    return repeat(Step([Branch(feed, number) for number, feed in enumerate(feeds)]), len(steps))
