"""Adapters as inputs of the UNet.

A mix of adapters is one adapter: its factors are theirs side by side along the rank, the weights folded into B. That is
exact for
any mix, ranks may differ, and drawing with it needs no new session: only other arrays are fed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edge_sdk.adapter import Adapter, concatenate
from edge_sdk.inference.bundle import Slot

# Names of adapters, or adapters themselves, with the weight of each.
Mix: TypeAlias = Mapping[str, float] | Sequence[tuple[Adapter, float]]
Feed: TypeAlias = dict[str, npt.NDArray[np.float32]]


def to_feed(terms: Sequence[tuple[Adapter, float]], slots: Mapping[str, Slot]) -> Feed:
    """ONNX inputs of a weighted sum of adapters; slots that none of them has are left to their defaults.

    The adapters must fit the slots (`edge_sdk.adapter.check`).
    """
    terms = [(adapter, weight) for adapter, weight in terms if weight != 0]
    if not terms:
        return {}
    feed: Feed = {}
    for name, factors in concatenate(terms).layers.items():
        # On disk (PEFT) A is (r, in) and B is (out, r); the graph computes (x A) B.
        feed[slots[name].input_a] = np.ascontiguousarray(factors.a.T, np.float32)
        feed[slots[name].input_b] = np.ascontiguousarray(factors.b.T, np.float32)
    return feed
