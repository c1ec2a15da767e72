"""Clusterers: each weighs the kinds of evidence for the similarity of two devices."""

from __future__ import annotations

from coordinator.methods.clustering.blends.adapter import ByAdapter
from coordinator.methods.clustering.blends.base import Clusterer, Grouping
from coordinator.methods.clustering.blends.fused import Fused
from coordinator.methods.clustering.blends.ifca import IFCA
from coordinator.methods.clustering.blends.prompt import ByPrompt
from coordinator.methods.clustering.blends.single import Single

__all__ = ["IFCA", "ByAdapter", "ByPrompt", "Clusterer", "Fused", "Grouping", "Single"]
