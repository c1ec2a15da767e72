"""How ONNX Runtime sessions are opened on a device."""

from __future__ import annotations

import os
from pathlib import Path

import onnxruntime as ort

from edge_sdk.errors import BundleCorrupt

_ERRORS_ONLY = 3


def open_session(path: Path, threads: int | None = None) -> ort.InferenceSession:
    """Open a graph on the CPU.

    threads: as many as the process may use cores by default, not as many as the machine has.

    Raises:
        BundleCorrupt: ONNX Runtime cannot load the graph.
    """
    options = ort.SessionOptions()
    # At warning level, every optional input is reported at every start.
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = threads or available_cores()
    # Idle threads sleep: an app and its federation share the same few cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    # onnxruntime's exceptions derive from Exception itself, one class for each status code.
    except Exception as error:
        raise BundleCorrupt(
            f"ONNX Runtime {ort.__version__} cannot load {path} ({error}): "
            "export the bundle again, or update onnxruntime."
        ) from error


def available_cores() -> int:
    """Cores that this process may run on: fewer than the machine has in containers and under taskset."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
