"""The running coordinator: takes a federation over, runs its rounds, and serves the final adapters."""

from __future__ import annotations

from coordinator.server.service import Service

__all__ = ["Service"]
