"""Registries of the methods that a federation file names: aggregation, clustering, interaction, optimisers, filters.

Each method brings its settings: the keys of its table in the file, see `MethodSettings`.
"""

from __future__ import annotations

from coordinator.methods.registry import Registry, not_callable
from coordinator.methods.settings import Idle, MethodSettings, not_subclass_of, undefined

__all__ = ["Idle", "MethodSettings", "Registry", "not_callable", "not_subclass_of", "undefined"]
