"""The coordinator at work: takes a federation over, coordinates it, and sees everybody home."""

from __future__ import annotations

from coordinator.server.service import Service

__all__ = ["Service"]
