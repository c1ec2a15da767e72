"""Attention between clusters in product space (the default): the operator of FedAMP, applied to cluster adapters.

    C_j <- svd_r((1 - rho) C_j + rho sum_l softmax_l(S_jl / tau) C_l),    S_jl = cos(C_j, C_l)

The result is refactored as near as possible to the old C_j, so that the devices' optimisers continue smoothly.

Source: FedAMP (Huang et al., arXiv 2007.03797), which applies attention to the models of single clients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from coordinator.methods import Idle
from coordinator.methods.interaction.base import Interaction
from edge_sdk.adapter import Adapter, align, concatenate, cosine, truncate


class Attention(Interaction, frozen=True, kw_only=True):
    """Attention: C_j <- svd_r((1 - rho) C_j + rho sum_l softmax_l(S_jl / tau) C_l), with S_jl = cos(C_j, C_l).

    Source: FedAMP (Huang et al., arXiv 2007.03797), here between clusters and in product space.

    Attributes:
        rho: share, in [0, 1], of a cluster's adapter that attention over all clusters replaces.
        tau: temperature of this attention, in (0, 100]; small values attend to similar clusters only.
    """

    whole: ClassVar[bool] = True
    method: str = "attention"
    rho: Annotated[float, Meta(ge=0, le=1)] = 0.1
    tau: Annotated[float, Meta(gt=0, le=100)] = 0.5

    def idle(self) -> Sequence[Idle]:
        return ((("tau",), "rho = 0"),) if self.rho == 0 else ()

    def __call__(self, adapters: Mapping[int, Adapter], rank: int) -> dict[int, Adapter]:
        names = sorted(adapters)
        if len(names) < 2 or self.rho == 0:
            return dict(adapters)
        similarity = np.array([[cosine(adapters[own], adapters[other]) for other in names] for own in names])
        scores = np.exp((similarity - similarity.max(axis=1, keepdims=True)) / self.tau)
        weights = self.rho * scores / scores.sum(axis=1, keepdims=True) + (1 - self.rho) * np.eye(len(names))
        mixed = {}
        for row, name in zip(weights, names, strict=True):
            mixture = concatenate([(adapters[other], float(weight)) for other, weight in zip(names, row, strict=True)])
            mixed[name] = align(truncate(mixture, rank)[0], adapters[name])
        return mixed
