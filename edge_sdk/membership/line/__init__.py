"""A device's line to its federation: what it sends and hears over a broker, and how others know that it is there.

presence.py     births and deaths of a session
connection.py   the link over a transport

Each imports only those above it.
"""

from __future__ import annotations

from edge_sdk.membership.line.connection import Connection, Heard, Link, Trouble
from edge_sdk.membership.line.presence import Session

__all__ = ["Connection", "Heard", "Link", "Session", "Trouble"]
