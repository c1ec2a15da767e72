"""Assisted drawing: a process that draws the first steps of pictures for a federation's devices. See docs/assist.md.

requests.py     the queue, its quotas and deadlines, and the answers: pure
bank.py         the adapters to draw with
members.py      the devices to draw for
reading.py      a request -> an order, or the error that names what is wrong
drawer.py       the thread that draws, requests of a kind together
helper.py       all of it, over a broker
metrics.py      for Prometheus
console.py      for people
"""

from __future__ import annotations

from coordinator.assist.console import describe
from coordinator.assist.helper import Helper, HelperSettings
from coordinator.assist.metrics import HelperMetrics
from coordinator.assist.requests import Limits

__all__ = ["Helper", "HelperMetrics", "HelperSettings", "Limits", "describe"]
