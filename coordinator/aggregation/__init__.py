"""How the updates of one group of devices become one adapter.

An aggregator takes updates one at a time, so that they need not be in memory together, and then gives its result. A new
one is one file and one line here.
"""

from __future__ import annotations

from coordinator.aggregation.base import Aggregate, Aggregator
from coordinator.aggregation.fedit import FedIT
from coordinator.aggregation.product import Product

AGGREGATORS: dict[str, type[Aggregator]] = {"product": Product, "fedit": FedIT}

__all__ = ["AGGREGATORS", "Aggregate", "Aggregator"]
