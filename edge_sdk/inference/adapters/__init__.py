"""Adapters as inputs of the UNet.

mixing.py       adapters -> inputs of the UNet
hybrids/        ways in which several adapters draw together
"""

from __future__ import annotations

from edge_sdk.inference.adapters.hybrids import HYBRIDS, Branch, Predictions, Step
from edge_sdk.inference.adapters.mixing import Feed, Mix, to_feed

__all__ = [
    "HYBRIDS",
    "Branch",
    "Feed",
    "Mix",
    "Predictions",
    "Step",
    "to_feed",
]
