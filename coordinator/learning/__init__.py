"""Learning from updates: clusters of devices, and an adapter for each cluster."""

from __future__ import annotations

from coordinator.learning.aggregate import Learning
from coordinator.learning.cluster import Tastes
from coordinator.learning.sketches import Subspaces
from coordinator.learning.updates import Updates

__all__ = ["Learning", "Subspaces", "Tastes", "Updates"]
