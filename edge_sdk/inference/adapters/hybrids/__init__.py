"""Hybrids: ways in which several adapters draw one picture together.

A hybrid is a function. It takes adapters with their weights, the slots and the steps to do. For each step it yields the
branches (runs of the UNet) and a function that makes one prediction of theirs. To add one, write it in a file of its
own and give it a name below.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from edge_sdk.inference.adapters.hybrids.apart import bands, patches, steer
from edge_sdk.inference.adapters.hybrids.base import Branch, Hybrid, Predictions, Step, Terms
from edge_sdk.inference.adapters.hybrids.composite import composite
from edge_sdk.inference.adapters.hybrids.guide import guide
from edge_sdk.inference.adapters.hybrids.merge import merge
from edge_sdk.inference.adapters.hybrids.select import select
from edge_sdk.inference.adapters.hybrids.switch import switch

HYBRIDS: Mapping[str, Hybrid] = MappingProxyType(
    {
        "merge": merge,
        "guide": guide,
        "switch": switch,
        "composite": composite,
        "select": select,
        "steer": steer,
        "patches": patches,
        "bands": bands,
    }
)

__all__ = ["HYBRIDS", "Branch", "Hybrid", "Predictions", "Step", "Terms"]
