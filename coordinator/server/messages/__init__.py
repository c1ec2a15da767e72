"""Messages that arrive: the router finds the handler of each; a faulty one is refused by name."""

from __future__ import annotations

from coordinator.server.messages.forgetting import Forgetting
from coordinator.server.messages.joining import Joining
from coordinator.server.messages.rivals import Rivals
from coordinator.server.messages.router import Router
from coordinator.server.messages.transfers import TransferMessages

__all__ = ["Forgetting", "Joining", "Rivals", "Router", "TransferMessages"]
