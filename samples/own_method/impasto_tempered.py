"""Devices weigh by a power of their number of pictures, so that none drowns out the others.

    dW = sum_i w_i^power B_i A_i / sum_i w_i^power

With the power 1/2 a device with 400 pictures weighs four times as much as one with 25, not sixteen times: a step from
"every picture counts alike" (power 1) towards "every device counts alike" (power 0). The mean of the products is cut to
the rank and written in the gauge that the devices trained in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from coordinator.methods import Idle
from coordinator.methods.aggregation import Aggregate, Aggregator, CarryingSettings, FactorSum, ProductSum, paired
from edge_sdk.adapter import Adapter, align, concatenate, truncate


class TemperedSettings(CarryingSettings, frozen=True, kw_only=True):
    """Keys of the table [aggregation] with this method: those of all methods that carry, and one of its own.

    Attributes:
        power: exponent, in [0, 1], of a device's number of pictures.
    """

    power: Annotated[float, Meta(ge=0, le=1)] = 0.5

    def idle(self) -> Sequence[Idle]:
        """Return the keys that have no effect beside this power."""
        return [(("max_weight",), "power = 0 weighs all devices alike")] if self.power == 0 else []


class Tempered(Aggregator):
    """Mean of products, weighted by a power of each device's number of pictures."""

    Settings = TemperedSettings
    mixed_ranks = True  # products of any rank can be added
    exact = False  # a mean, but not the one by numbers of pictures
    linear = False  # the sum of products is no sum of what devices send
    carries = True  # what lies beyond a device's rank is added to its update

    def __init__(self, rank: int, settings: TemperedSettings | None = None) -> None:
        super().__init__(rank, settings)
        self._power = (settings or TemperedSettings()).power
        self._products = ProductSum(rank)
        self._a = FactorSum(lambda factors: factors.a)
        self._b = FactorSum(lambda factors: factors.b.T)

    def _add(self, adapter: Adapter, weight: float, rest: Adapter | None) -> None:
        whole = concatenate([(adapter, 1.0), (rest, 1.0)]) if rest else adapter
        tempered = weight**self._power
        self._products.add(whole, tempered)
        self._a.add(adapter, tempered)
        self._b.add(adapter, tempered)

    def _merge(self, other: Tempered) -> None:
        self._products.merge(other._products)
        self._a.merge(other._a)
        self._b.merge(other._b)

    def _result(self) -> Aggregate:
        mean, retained = truncate(self._products.mean(), self.rank)
        # Devices go on from factors near their own: `align` turns the mean's factors towards their mean A.
        gauge = paired(self._a.mean_of_owners(), self._b.mean_of_owners(), self._a.kernels, mean.base_id)
        return Aggregate(start=align(mean, gauge), folded=None, retained_energy=retained, updates=self._updates)
