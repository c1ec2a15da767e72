"""Small real adapters for the tests of the coordinator."""

from __future__ import annotations

from coordinator.methods.aggregation.contract import BASE_ID, SLOTS, dense, random_adapter, rotated

__all__ = ["BASE_ID", "SLOTS", "dense", "random_adapter", "rotated"]
