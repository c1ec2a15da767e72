"""The result of one check, in words for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edge_sdk.transport import Reason

Section = Literal["board", "home", "broker", "certificate", "clock", "access", "coordinator", "privacy"]
Status = Literal["ok", "warning", "broken"]


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    what: what was found; why: why that matters, or how it shows; next: what to do. The last two are empty if it is ok.
    """

    section: Section
    status: Status
    what: str
    why: str = ""
    next: str = ""

    @property
    def broken(self) -> bool:
        return self.status == "broken"


def broken(reason: Reason) -> Finding:
    """The finding for a reason why there is no connection."""
    return Finding(reason.section, "broken", reason.what, reason.why, reason.next)
