"""FedIT (Zhang et al., arXiv 2305.05644): factors averaged apart, the usual baseline.

The product of the means misses the cross-covariance of the factors, sum_i w_i (B_i - mean B)(A_i - mean A). It is exact
where all devices share one factor.
"""

from __future__ import annotations

from typing import ClassVar

from coordinator.methods.aggregation.base import AggregatorSettings, MaskableSettings
from coordinator.methods.aggregation.factors.mean import FactorMean


class FedIT(FactorMean):
    """FedIT: start = (mean B)(mean A), with weighted means of the factors.

    Not exact, linear; all devices train one rank. Updates may be summed under masks. Source: Zhang et al., arXiv
    2305.05644.
    """

    Settings: ClassVar[type[AggregatorSettings]] = MaskableSettings
