"""Properties of our sessions with a broker."""

from __future__ import annotations

RECEIVE_MAXIMUM = 64
"""Messages that the broker may send before we have handled earlier ones."""
SESSION_EXPIRY = 60
"""Seconds that the broker keeps our session, and delays our will, after a lost connection."""
