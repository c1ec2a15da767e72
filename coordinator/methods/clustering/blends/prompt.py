"""Clustering by prompt codes alone, which describe what devices draw. Needs no round of training."""

from __future__ import annotations

from coordinator.methods.clustering.blends.base import Grouping
from coordinator.methods.clustering.evidence import Blend, Evidence


class ByPrompt(Grouping, frozen=True, kw_only=True):
    """Prompt codes alone: S = S_prompt, cosines of centred prompt codes."""

    method: str = "prompt"

    def __call__(self, evidence: Evidence) -> Blend:
        return Blend(prompt=1.0, adapter=0.0)
