"""Clusterers: each weighs the kinds of evidence for the similarity of two devices."""

from __future__ import annotations

from coordinator.methods.clustering.blends.adapter import adapter
from coordinator.methods.clustering.blends.fused import fused
from coordinator.methods.clustering.blends.prompt import prompt
from coordinator.methods.clustering.blends.single import single

__all__ = ["adapter", "fused", "prompt", "single"]
