"""Aggregators that average the factors A and B apart, or one of them."""

from __future__ import annotations

from coordinator.methods.aggregation.factors.fedex import FedEx
from coordinator.methods.aggregation.factors.fedit import FedIT
from coordinator.methods.aggregation.factors.fedsa import FedSA
from coordinator.methods.aggregation.factors.ffa import FFA
from coordinator.methods.aggregation.factors.hetlora import HetLoRA
from coordinator.methods.aggregation.factors.rolora import RoLoRA

__all__ = ["FFA", "FedEx", "FedIT", "FedSA", "HetLoRA", "RoLoRA"]
