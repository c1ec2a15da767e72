"""Clustering by what adapters have learnt: the principal angles between the subspaces that they write into.

It sees a difference in style behind the same words, which prompt codes do not. As long as a device has no adapter it is
compared by its prompt code: before the first round of training, so are all.
"""

from __future__ import annotations

from coordinator.methods.clustering.evidence import Blend, Evidence


def adapter(evidence: Evidence) -> Blend:
    return Blend(prompt=0.0, adapter=1.0)
