"""The coordinator's keys, home and claim to lead; the admission and the presence of devices."""

from __future__ import annotations

from coordinator.identity.admission import HAS_LEFT, REVOKED, Admissions, Refusal
from coordinator.identity.hellos import ERASED, JOIN_NEEDED, Greetings
from coordinator.identity.home import Holder, Home, serving
from coordinator.identity.keys import Keys
from coordinator.identity.leadership import Leadership
from coordinator.identity.presence import Presences

__all__ = [
    "ERASED",
    "HAS_LEFT",
    "JOIN_NEEDED",
    "REVOKED",
    "Admissions",
    "Greetings",
    "Holder",
    "Home",
    "Keys",
    "Leadership",
    "Presences",
    "Refusal",
    "serving",
]
