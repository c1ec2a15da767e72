"""Devices train both factors and send only A; every device keeps a B of its own, as in FedSA-LoRA (Guo et al., arXiv
2410.01463).

What the group shares is A. The B of the result is zero: a device puts its own there, a new device starts from zero.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from coordinator.methods.aggregation.fedit import FedIT
from edge_sdk.adapter import Adapter, Factors, Share


class FedSA(FedIT):
    home_factor: ClassVar[bool] = True

    @classmethod
    def share(cls, turn: int) -> Share:
        return Share.A_ONLY

    def _mean(self) -> Adapter:
        mean = super()._mean()
        layers = {name: Factors(f.a, np.zeros_like(f.b), f.kernel) for name, f in mean.layers.items()}
        return Adapter(layers, mean.base_id)
