"""ONNX Runtime sessions on the CPU: their options, and opening them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from edge_sdk.errors import BundleCorrupt
from edge_sdk.inference.runtime.hardware import available_cores

__all__ = ["Opened", "available_cores", "lean_options", "load", "open_session", "session_options"]

_ERRORS_ONLY = 3


def open_session(path: Path, threads: int | None = None) -> ort.InferenceSession:
    """Open a graph on the CPU.

    threads: None takes the cores that the process may use, not all that the machine has.

    Raises:
        BundleCorrupt: ONNX Runtime cannot load the graph.
    """
    return load(path, session_options(threads))


def session_options(threads: int | None = None) -> ort.SessionOptions:
    """Options that all sessions share."""
    options = ort.SessionOptions()
    # At warning level, ONNX Runtime reports every optional input at every start.
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = threads or available_cores()
    # Idle threads sleep: an app and its federation share the same few cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Without the arena every node's results are pages that the system has to hand out again, a tenth of a step's time.
    options.enable_cpu_mem_arena = True
    # A pattern is a second copy of the working set for every input shape that was seen: half as much again, no faster.
    options.enable_mem_pattern = False
    return options


def lean_options(threads: int | None = None) -> ort.SessionOptions:
    """Options under which weights stay in their mapped file.

    The kernels then read them in the exported order, which takes about a twentieth longer.
    """
    options = session_options(threads)
    # The next level copies convolutions' weights, reordered, into memory.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.add_session_config_entry("session.disable_prepacking", "1")
    return options


def load(path: Path, options: ort.SessionOptions) -> ort.InferenceSession:
    """Open a graph on the CPU with the given options.

    Raises:
        BundleCorrupt: ONNX Runtime cannot load the graph.
    """
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    # onnxruntime's exceptions derive from Exception itself, one class for each status code.
    except Exception as error:
        raise BundleCorrupt(
            f"ONNX Runtime {ort.__version__} cannot load {path} ({error}): "
            "export or copy the bundle again, or update onnxruntime."
        ) from error


class Opened:
    """An ONNX Runtime session behind the interface of all back ends.

    frugal: give the working memory back after every run.
    """

    def __init__(self, session: ort.InferenceSession, *, frugal: bool = False) -> None:
        self._session = session
        self._options = ort.RunOptions()
        if frugal:
            self._options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def run(self, outputs: Sequence[str], feed: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[np.float32]]:
        results: list[npt.NDArray[np.float32]] = self._session.run(list(outputs), dict(feed), self._options)
        return results
