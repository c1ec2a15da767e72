"""Running graphs: ONNX Runtime and other back ends, within the machine's cores and memory.

hardware.py     the processor, and the cores and memory that the process may use
sessions.py     ONNX Runtime on the CPU
cache.py        the cache on disk
prepare.py      graphs laid out for this processor, on disk
backends/       the back ends, and the check that one works here
memory.py       memory limits, and estimates of the memory that drawing takes
settings.py     the options of whoever draws
stages.py       the bundle's graphs, opened when they are needed, closed when memory is short
"""

from __future__ import annotations

from edge_sdk.inference.runtime import cache, hardware, prepare
from edge_sdk.inference.runtime.backends import AUTO, BACKENDS, DrawingPrecision, Session, Settings, choose, probe, rate
from edge_sdk.inference.runtime.hardware import available_cores
from edge_sdk.inference.runtime.memory import give_back, is_lack_of_it, keep_no_large_blocks, parse_size, show_size
from edge_sdk.inference.runtime.prepare import NotPrepared, place
from edge_sdk.inference.runtime.sessions import lean_options, load, open_session
from edge_sdk.inference.runtime.settings import DrawingOptions, DrawingSettings
from edge_sdk.inference.runtime.stages import Stages, graphs

__all__ = [
    "AUTO",
    "BACKENDS",
    "DrawingOptions",
    "DrawingPrecision",
    "DrawingSettings",
    "NotPrepared",
    "Session",
    "Settings",
    "Stages",
    "available_cores",
    "cache",
    "choose",
    "give_back",
    "graphs",
    "hardware",
    "is_lack_of_it",
    "keep_no_large_blocks",
    "lean_options",
    "load",
    "open_session",
    "parse_size",
    "place",
    "prepare",
    "probe",
    "rate",
    "show_size",
]
