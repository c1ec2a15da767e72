"""How the updates of one group of devices become one adapter.

An aggregator takes updates one at a time, so that they need not be in memory together, and then gives its result. A new
one is one file and one line here, or an entry point of another package. Before it, a filter may look at the updates
together and say whom to believe.
"""

from __future__ import annotations

from coordinator.aggregation.base import Aggregate, Aggregator, fault_of
from coordinator.aggregation.fedex import FedEx
from coordinator.aggregation.fedit import FedIT
from coordinator.aggregation.fedsa import FedSA
from coordinator.aggregation.fedsb import FedSB
from coordinator.aggregation.ffa import FFA
from coordinator.aggregation.filters import FILTERS, Filter
from coordinator.aggregation.flexlora import FlexLoRA
from coordinator.aggregation.flora import FLoRA
from coordinator.aggregation.hetlora import HetLoRA
from coordinator.aggregation.product import Product
from coordinator.aggregation.rolora import RoLoRA
from coordinator.registry import Registry

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

__all__ = ["AGGREGATORS", "FILTERS", "Aggregate", "Aggregator", "Filter"]
