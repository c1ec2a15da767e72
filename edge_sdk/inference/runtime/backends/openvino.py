"""Intel's OpenVINO on the same ONNX files: bfloat16 where the processor computes in it.

OpenVINO refuses inputs with a default of rank 0, such as LoRA slots. They become plain inputs before it reads the
graph, and a slot that no adapter fills is fed factors of rank 0.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.errors import BackendUnavailable, BundleCorrupt
from edge_sdk.inference.bundle import Graph, drop_defaults
from edge_sdk.inference.runtime.backends.base import Array, Backend, Floats, Session, Settings, reading
from edge_sdk.inference.runtime.hardware import available_cores


class OpenVino(Backend):
    """OpenVINO on the CPU, which takes every LoRA slot as a plain input."""

    name = "openvino"
    title = "OpenVINO, CPU"
    chooses_precision = True
    keeps_work = True

    def missing(self) -> str | None:
        if find_spec("openvino") is not None:
            return None
        return 'the package openvino is not installed: pip install "impasto[openvino]".'

    def open(self, graph: Graph, settings: Settings) -> Session:
        if reason := self.missing():
            raise BackendUnavailable(reason)
        import openvino

        try:
            core = openvino.Core()
            has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        except RuntimeError as error:
            raise BackendUnavailable(f"OpenVINO has no CPU plugin that starts ({error}): install it again.") from error
        if settings.precision == "bf16" and not has_bf16:
            raise BackendUnavailable("This processor does not compute in bfloat16: ask for precision='f32'.")
        options = {
            "INFERENCE_NUM_THREADS": settings.threads or available_cores(),
            "INFERENCE_PRECISION_HINT": "bf16" if has_bf16 and settings.precision != "f32" else "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            with _plain_inputs(graph) as path:
                return _Compiled(core.compile_model(core.read_model(path), "CPU", options))
        except (RuntimeError, ValueError) as error:
            raise BundleCorrupt(
                f"OpenVINO {openvino.__version__} cannot load {graph.path} ({error}): "
                "export or copy the bundle again, or draw with backend='cpu'."
            ) from error

    def resident_bytes(self, graph: Graph, settings: Settings) -> int:
        return int((0.9 if graph.maps else 1.9) * graph.size)

    def opening_bytes(self, graph: Graph, settings: Settings) -> int:
        return max(self.resident_bytes(graph, settings), 0 if graph.maps else reading(graph))


class _Compiled:
    """A compiled model, with one request for each thread that runs it at the same time."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._idle: list[Any] = []
        self._lock = threading.Lock()
        self._empty = {port.any_name: _nothing(port) for port in model.inputs if _is_slot(port)}

    def run(self, outputs: Sequence[str], feed: Mapping[str, Array]) -> list[Floats]:
        with self._lock:
            request = self._idle.pop() if self._idle else self._model.create_infer_request()
        results = request.infer({**self._empty, **feed})
        # The arrays belong to the request, which another thread may use the next moment.
        copies = [np.array(results[name]) for name in outputs]
        with self._lock:
            self._idle.append(request)
        return copies


def _is_slot(port: Any) -> bool:
    return ".lora_" in port.any_name


def _nothing(port: Any) -> Floats:
    """Factors of rank 0."""
    return np.zeros([0 if size.is_dynamic else size.get_length() for size in port.partial_shape], np.float32)


@contextmanager
def _plain_inputs(graph: Graph) -> Iterator[Path]:
    """Yield the file of the graph without defaults, which exists while OpenVINO reads it.

    OpenVINO takes weights only from the graph's own folder and follows no links out of it. So the file is written there
    if the graph has a file of weights. If that folder cannot be written, the weights are copied elsewhere with it.
    """
    weights = [path for path in graph.files if path != graph.path]
    beside = bool(weights) and os.access(graph.path.parent, os.W_OK)
    with tempfile.TemporaryDirectory(prefix="impasto-", ignore_cleanup_errors=True) as folder:
        path = graph.path.with_name(f".{secrets.token_hex(8)}.onnx") if beside else Path(folder) / graph.path.name
        try:
            drop_defaults(graph.path, path)
            if not beside:
                for file in weights:
                    shutil.copyfile(file, path.with_name(file.name))
            yield path
        except OSError as error:
            raise BundleCorrupt(f"{graph.path} cannot be read ({error}): export or copy the bundle again.") from error
        finally:
            path.unlink(missing_ok=True)
