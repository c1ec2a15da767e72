"""Learning from updates: clusters of devices, and an adapter for each cluster."""

from __future__ import annotations

from coordinator.learning.aggregate import Learning
from coordinator.learning.cluster import Tastes
from coordinator.learning.codes import Standing, comparable, positions
from coordinator.learning.sketches import Subspaces
from coordinator.learning.updates import Updates
from coordinator.learning.worker import Answer, LearningWorker, lost_blobs

__all__ = [
    "Answer",
    "Learning",
    "LearningWorker",
    "Standing",
    "Subspaces",
    "Tastes",
    "Updates",
    "comparable",
    "lost_blobs",
    "positions",
]
