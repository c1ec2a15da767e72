"""Facts of a machine that say how fast it can be, and nothing about its owner."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

# Packages whose versions decide on speed.
_PACKAGES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "numpy",
    "torch",
    "diffusers",
    "peft",
    "paho-mqtt",
    "iotcore",
)


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory and limits of this machine, and the versions of what runs on it."""
    from edge_sdk import __version__
    from edge_sdk.inference.runtime import hardware

    cores, memory = hardware.usable_cores(), hardware.memory()
    return {
        "processor": hardware.processor().name,
        "architecture": platform.machine(),
        "system": platform.system(),
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "usable_cores": cores.count,
        "usable_because": cores.reason,
        "memory": memory[0] if memory else None,
        "available_memory": memory[1] if memory else None,
        "memory_limit": hardware.memory_limit(),
        "versions": {"impasto": __version__, "python": platform.python_version(), **_versions()},
    }


def describe_board() -> dict[str, Any]:
    """Facts of the board as they are now: throttling, temperature, power."""
    from edge_sdk.diagnosis import BoardFacts

    return BoardFacts.read().as_values()


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # noqa: PERF203
            continue
    return found
