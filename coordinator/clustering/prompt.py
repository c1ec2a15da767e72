"""Clustering by what devices draw: cosines of their centred prompt codes."""

from __future__ import annotations

from coordinator.clustering.evidence import Evidence, Matrix, centred_cosines


def prompt(evidence: Evidence) -> Matrix:
    return centred_cosines(evidence.codes @ evidence.codes.T)
