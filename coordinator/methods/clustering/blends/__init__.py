"""Clusterers: each weighs the kinds of evidence for the similarity of two devices."""

from __future__ import annotations

from coordinator.methods.clustering.blends.adapter import ByAdapter
from coordinator.methods.clustering.blends.base import Clusterer, Decision, Grouping
from coordinator.methods.clustering.blends.fused import Fused
from coordinator.methods.clustering.blends.ifca import IFCA
from coordinator.methods.clustering.blends.picture import ByPicture
from coordinator.methods.clustering.blends.prompt import ByPrompt
from coordinator.methods.clustering.blends.single import Single
from coordinator.methods.clustering.blends.validated import Validated

__all__ = [
    "IFCA",
    "ByAdapter",
    "ByPicture",
    "ByPrompt",
    "Clusterer",
    "Decision",
    "Fused",
    "Grouping",
    "Single",
    "Validated",
]
