"""Memory of a training.

budget.py   the best way to train within a limit
dry_run.py  the memory of a step, found on tensors without content
planner.py  the facts of one base model on this machine
"""

from __future__ import annotations

from edge_sdk.training.memory.budget import SIZES, Budget
from edge_sdk.training.memory.planner import Planner

__all__ = ["SIZES", "Budget", "Planner"]
