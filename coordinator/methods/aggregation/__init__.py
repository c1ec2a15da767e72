"""Aggregation of the updates of one group of devices into one adapter.

An aggregator takes updates one at a time, so that they need not be in memory together, and then returns its result. A
new one is one file and one line here, or an entry point of another package. Before it, a filter may compare the updates
and reduce the weights of suspicious ones.
"""

from __future__ import annotations

from coordinator.methods import Registry
from coordinator.methods.aggregation.base import Aggregate, Aggregator, fault_of
from coordinator.methods.aggregation.cores import Core, Cores, products_of_changes, products_of_cores
from coordinator.methods.aggregation.fedex import FedEx
from coordinator.methods.aggregation.fedit import FedIT
from coordinator.methods.aggregation.fedsa import FedSA
from coordinator.methods.aggregation.fedsb import FedSB
from coordinator.methods.aggregation.ffa import FFA
from coordinator.methods.aggregation.filters import CLIP, FILTERS, Belief, Filter, capped, changes_of, shrunk
from coordinator.methods.aggregation.flexlora import FlexLoRA
from coordinator.methods.aggregation.flora import FLoRA
from coordinator.methods.aggregation.gauge import Scales, scales, to_scale, usual
from coordinator.methods.aggregation.hetlora import HetLoRA
from coordinator.methods.aggregation.late import rebased, staleness_weight
from coordinator.methods.aggregation.product import Product
from coordinator.methods.aggregation.rolora import RoLoRA
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
    "CLIP",
    "FILTERS",
    "Aggregate",
    "Aggregator",
    "Belief",
    "Core",
    "Cores",
    "FactorSum",
    "Filter",
    "ProductSum",
    "Scales",
    "capped",
    "changes_of",
    "paired",
    "products_of_changes",
    "products_of_cores",
    "rebased",
    "scales",
    "shrunk",
    "staleness_weight",
    "to_scale",
    "usual",
]
