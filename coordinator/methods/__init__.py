"""Registries of the methods that a federation file names: aggregation, clustering, interaction, optimisers."""

from __future__ import annotations

from coordinator.methods.registry import Registry, not_callable, not_of

__all__ = ["Registry", "not_callable", "not_of"]
