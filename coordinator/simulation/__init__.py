"""Simulation of a whole federation in one process, without a network. No module of the server imports it.

`offline` is the command `impasto-coordinator simulate`.
"""

from __future__ import annotations

from coordinator.simulation.federation import Outcome, SimulatedDevice, simulate
from coordinator.simulation.ifca import ChoosingDevice, simulate_ifca

__all__ = ["ChoosingDevice", "Outcome", "SimulatedDevice", "simulate", "simulate_ifca"]
