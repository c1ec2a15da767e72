"""FedSA-LoRA (Guo et al., arXiv 2410.01463): devices train both factors and send A only; each keeps a B of its own.

The group shares A. The result's B is zero: a device replaces it by its own B, and a new device starts from zero.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from coordinator.methods.aggregation.factors.mean import FactorMean
from edge_sdk.adapter import Adapter, Factors, Share


class FedSA(FactorMean):
    """FedSA-LoRA: start = (0, mean A); B stays on the device.

    All devices train one rank. Source: Guo et al., arXiv 2410.01463.
    """

    home_factor: ClassVar[bool] = True

    @classmethod
    def share(cls, turn: int) -> Share:
        return Share.A_ONLY

    def _mean(self) -> Adapter:
        mean = super()._mean()
        layers = {name: Factors(f.a, np.zeros_like(f.b), f.kernel) for name, f in mean.layers.items()}
        return Adapter(layers, mean.base_id)
