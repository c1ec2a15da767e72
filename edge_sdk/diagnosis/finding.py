"""One thing that was looked at, in words for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edge_sdk.transport import Reason

Section = Literal["home", "broker", "certificate", "clock", "access", "coordinator"]
Status = Literal["ok", "warning", "broken"]


@dataclass(frozen=True)
class Finding:
    """what: what was found; why: why that matters, or how it shows; next: what to do. Both are empty if it is ok."""

    section: Section
    status: Status
    what: str
    why: str = ""
    next: str = ""

    @property
    def broken(self) -> bool:
        return self.status == "broken"


def broken(reason: Reason) -> Finding:
    """What stands in the way of a connection."""
    return Finding(reason.section, "broken", reason.what, reason.why, reason.next)
