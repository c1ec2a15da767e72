"""Aggregation of the updates of one group of devices into one adapter.

An aggregator takes updates one at a time, so that they need not be in memory together, and then returns its result. A
new one is one file and one line here, or an entry point of another package. Before it, a filter may compare the updates
and reduce the weights of suspicious ones.
"""

from __future__ import annotations

from coordinator.methods import Registry
from coordinator.methods.aggregation.base import (
    Aggregate,
    Aggregator,
    AggregatorSettings,
    CarryingSettings,
    MaskableSettings,
    fault_of,
)
from coordinator.methods.aggregation.factors import FFA, FedEx, FedIT, FedSA, HetLoRA, RoLoRA
from coordinator.methods.aggregation.late import rebased, staleness_weight
from coordinator.methods.aggregation.products import FedSB, FlexLoRA, FLoRA, Product
from coordinator.methods.aggregation.sums import FactorSum, ProductSum, paired

_BUILT_IN: dict[str, type[Aggregator]] = {
    "product": Product,
    "fedit": FedIT,
    "ffa": FFA,
    "rolora": RoLoRA,
    "flora": FLoRA,
    "fedex": FedEx,
    "flexlora": FlexLoRA,
    "hetlora": HetLoRA,
    "fedsa": FedSA,
    "fedsb": FedSB,
}
AGGREGATORS: Registry[type[Aggregator]] = Registry("impasto.aggregators", _BUILT_IN, fault_of)

__all__ = [
    "AGGREGATORS",
    "Aggregate",
    "Aggregator",
    "AggregatorSettings",
    "CarryingSettings",
    "FactorSum",
    "MaskableSettings",
    "ProductSum",
    "paired",
    "products_of_changes",
    "products_of_cores",
    "rebased",
    "staleness_weight",
]
