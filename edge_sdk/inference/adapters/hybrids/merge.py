"""Merge: the weighted sum of the adapters at every step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import repeat

from edge_sdk.inference.adapters.hybrids.base import Branch, Step, Terms
from edge_sdk.inference.adapters.mixing import to_feed
from edge_sdk.inference.bundle import Slot


def merge(terms: Terms, slots: Mapping[str, Slot], steps: range) -> Iterator[Step]:
    """Draw with W + sum_i w_i B_i A_i, by concatenating the factors; one run of the UNet at each step."""
    return repeat(Step([Branch(to_feed(terms, slots))]), len(steps))
