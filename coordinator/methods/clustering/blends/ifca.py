"""Settings of IFCA, in which devices choose their clusters by loss: `impasto-coordinator simulate` performs it.

Source: Ghosh et al., arXiv 2006.04088; see coordinator/simulation/ifca.py.
"""

from __future__ import annotations

from coordinator.methods.clustering.blends.base import Clusterer
from coordinator.methods.clustering.evidence import Blend, Evidence
from edge_sdk.wire import Count


class IFCA(Clusterer, frozen=True, kw_only=True):
    """Clusters that devices choose by loss (Ghosh et al., arXiv 2006.04088). The coordinator clusters nothing.

    Attributes:
        clusters: number of models, at least 1.
    """

    method: str = "ifca"
    clusters: Count = 0

    def __post_init__(self) -> None:
        if not self.clusters:
            raise ValueError('method = "ifca" cannot find the number of clusters: set clusters to it')

    def __call__(self, evidence: Evidence) -> Blend:
        return Blend(prompt=0.0, adapter=0.0)
