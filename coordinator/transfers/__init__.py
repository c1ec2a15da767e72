"""Updates on their way in, adapters on their way out."""

from __future__ import annotations

from coordinator.transfers.publisher import Outgoing
from coordinator.transfers.sessions import UPDATE, Peers
from coordinator.transfers.spool import Spool
from coordinator.transfers.uploads import Uploads

__all__ = ["UPDATE", "Outgoing", "Peers", "Spool", "Uploads"]
