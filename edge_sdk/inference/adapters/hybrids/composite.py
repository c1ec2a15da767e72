"""Composite: the adapters' guidance is averaged. Source: Zhong et al., arXiv 2402.16843."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import repeat

from edge_sdk.inference.adapters.hybrids.base import Branch, Step, Terms, feeds_apart
from edge_sdk.inference.bundle import Slot


def composite(terms: Terms, slots: Mapping[str, Slot], steps: range) -> Iterator[Step]:
    """(1/k) sum_i [e_i(x) + s (e_i(x, prompt) - e_i(x))], e_i being the prediction with adapter i alone at its weight.

    It takes k runs of the UNet at each step. Without guidance (s = 1, or a model that takes the guidance as an input),
    it is the mean of e_i(x, prompt). A weight is the adapter's strength, as in the other hybrids, and does not weigh
    the mean: a single adapter draws what merge draws.
    """
    feeds = feeds_apart(terms, slots)
    return repeat(Step([Branch(feed, number) for number, feed in enumerate(feeds)]), len(steps))
