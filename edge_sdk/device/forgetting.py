"""Forgetting a device: what its federation and its home have of it is deleted; and what nobody can take back."""

from __future__ import annotations

from pathlib import Path

from edge_sdk import membership
from edge_sdk.device.home import Home
from edge_sdk.errors import ConfigurationError
from edge_sdk.membership import Farewell
from edge_sdk.paths import expanded
from edge_sdk.transport import Settings

CANNOT_BE_TAKEN_BACK = (
    "its share in adapters that were made before: they are averages, and nobody can subtract one device from them; "
    "copies of these adapters on other devices; what the broker, its log or the operator's log and backups have kept "
    "of its messages"
)


def forget(
    home: Path | str,
    broker: str | Settings | None,
    federation: str,
    *,
    local_only: bool = False,
    answer: float = 30.0,
) -> Farewell:
    """Let a federation forget the device with this home; see `Device.forget`, which says what it raises."""
    if (broker is None) is not local_only:
        raise ConfigurationError(
            "To ask the coordinator takes its broker (--broker, or broker=), and --local-only (local_only=True) asks "
            "nobody: give one of the two."
        )
    folder = expanded(home)
    return membership.forget(broker, federation, folder, Home(folder).of_federation, answer=answer)
