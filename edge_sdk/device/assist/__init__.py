"""Assisted drawing, the device's half: a helper of its federation draws the first steps. See docs/assist.md.

settings.py     the owner's wish, and what came of it
choice.py       the number of steps to ask for: pure
asking.py       a request to the federation's helpers: without I/O
line.py         the thread that asks while the device draws
drawing.py      the device's drawing, which goes on from a helper's half
"""

from __future__ import annotations

from edge_sdk.device.assist.choice import latest
from edge_sdk.device.assist.drawing import draw_assisted
from edge_sdk.device.assist.settings import Assist, Assistance

__all__ = ["Assist", "Assistance", "draw_assisted", "latest"]
