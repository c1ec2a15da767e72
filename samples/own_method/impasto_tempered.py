"""Devices weigh by the square root of their number of pictures, so that none drowns out the others.

    dW = sum_i sqrt(w_i) B_i A_i / sum_i sqrt(w_i)

A device with 400 pictures weighs four times as much as one with 25, not sixteen times: a step from "every picture
counts alike" towards "every device counts alike". The mean of the products is cut to the rank and written in the gauge
that the devices trained in.
"""

from __future__ import annotations

import math

from coordinator.methods.aggregation import Aggregate, Aggregator, FactorSum, ProductSum, paired
from edge_sdk.adapter import Adapter, align, concatenate, truncate


class Tempered(Aggregator):
    """Mean of products, weighted by the square root of each device's number of pictures."""

    mixed_ranks = True  # products of any rank can be added
    exact = False  # a mean, but not the one by numbers of pictures
    linear = False  # the sum of products is no sum of what devices send
    carries = True  # what lies beyond a device's rank is added to its update

    def __init__(self, rank: int) -> None:
        super().__init__(rank)
        self._products = ProductSum(rank)
        self._a = FactorSum(lambda factors: factors.a)
        self._b = FactorSum(lambda factors: factors.b.T)

    def _add(self, adapter: Adapter, weight: float, rest: Adapter | None) -> None:
        whole = concatenate([(adapter, 1.0), (rest, 1.0)]) if rest else adapter
        self._products.add(whole, math.sqrt(weight))
        self._a.add(adapter, math.sqrt(weight))
        self._b.add(adapter, math.sqrt(weight))

    def _merge(self, other: Tempered) -> None:
        self._products.merge(other._products)
        self._a.merge(other._a)
        self._b.merge(other._b)

    def _result(self) -> Aggregate:
        mean, retained = truncate(self._products.mean(), self.rank)
        # Devices go on from factors near their own: `align` turns the mean's factors towards their mean A.
        gauge = paired(self._a.mean_of_owners(), self._b.mean_of_owners(), self._a.kernels, mean.base_id)
        return Aggregate(start=align(mean, gauge), folded=None, retained_energy=retained, updates=self._updates)
