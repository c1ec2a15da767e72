"""A whole federation in one process and without a network. Imported by nothing of the server.

`offline` is the command `impasto-coordinator simulate`."""

from __future__ import annotations

from coordinator.simulation.federation import Outcome, SimulatedDevice, simulate
from coordinator.simulation.ifca import ChoosingDevice, simulate_ifca

__all__ = ["ChoosingDevice", "Outcome", "SimulatedDevice", "simulate", "simulate_ifca"]
