"""Transfers: updates from devices, adapters to devices."""

from __future__ import annotations

from coordinator.transfers.deliveries import Deliveries
from coordinator.transfers.publisher import Publisher
from coordinator.transfers.sessions import UPDATE, Sessions
from coordinator.transfers.spool import Spool
from coordinator.transfers.uploads import Uploads

__all__ = ["UPDATE", "Deliveries", "Publisher", "Sessions", "Spool", "Uploads"]
