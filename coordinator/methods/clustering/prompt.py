"""Clustering by what devices draw: their prompt codes alone. Needs no round of training."""

from __future__ import annotations

from coordinator.methods.clustering.evidence import Blend, Evidence


def prompt(evidence: Evidence) -> Blend:
    return Blend(prompt=1.0, adapter=0.0)
