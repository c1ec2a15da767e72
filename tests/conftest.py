"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# Examples have no time limit of their own: this suite runs on slow and busy machines.
settings.register_profile("impasto", deadline=None)
settings.load_profile("impasto")
