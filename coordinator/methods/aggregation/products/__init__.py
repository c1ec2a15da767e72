"""Aggregators that begin with the exact mean of the products B A."""

from __future__ import annotations

from coordinator.methods.aggregation.products.fedsb import FedSB
from coordinator.methods.aggregation.products.flexlora import FlexLoRA
from coordinator.methods.aggregation.products.flora import FLoRA
from coordinator.methods.aggregation.products.product import Product

__all__ = ["FLoRA", "FedSB", "FlexLoRA", "Product"]
