"""What all tests share."""

from __future__ import annotations

import os

from hypothesis import settings

# torch's threads wait for each other after every operation: on tiny models and a busy machine that costs minutes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Examples have no time limit of their own: this suite runs on slow and busy machines.
settings.register_profile("impasto", deadline=None)
settings.load_profile("impasto")
