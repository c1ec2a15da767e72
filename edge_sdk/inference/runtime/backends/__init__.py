"""Back ends that run graphs, and the choice between them.

base.py         the interface of back ends
probe.py        the check that a back end works, by running it
providers.py    the base of ONNX Runtime's execution providers
the others      one back end each

A new back end is a new file and a line in `BACKENDS`.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_sdk.errors import BackendUnavailable
from edge_sdk.inference.runtime.backends.base import PRECISIONS, Backend, DrawingPrecision, Session, Settings
from edge_sdk.inference.runtime.backends.coreml import CoreML
from edge_sdk.inference.runtime.backends.cpu import Cpu
from edge_sdk.inference.runtime.backends.cuda import Cuda
from edge_sdk.inference.runtime.backends.openvino import OpenVino
from edge_sdk.inference.runtime.backends.probe import Verdict, probe, rate
from edge_sdk.inference.runtime.backends.qnn import Qnn
from edge_sdk.inference.runtime.backends.tensorrt import TensorRT

__all__ = [
    "AUTO",
    "BACKENDS",
    "PRECISIONS",
    "Backend",
    "Choice",
    "DrawingPrecision",
    "Session",
    "Settings",
    "Verdict",
    "choose",
    "probe",
    "rate",
]

_ALL: tuple[Backend, ...] = (Cuda(), TensorRT(), CoreML(), Qnn(), OpenVino(), Cpu())
BACKENDS = {backend.name: backend for backend in _ALL}
# Back ends that "auto" tries, the fastest first. TensorRT and QNN must be asked for by name: see their files.
AUTO = ("cuda", "coreml", "openvino", "cpu")


@dataclass(frozen=True)
class Choice:
    """A back end that works, and the reason for its choice, in words."""

    backend: Backend
    reason: str


def choose(name: str, settings: Settings) -> Choice:
    """Choose the back end of that name, or with "auto" the fastest one that works here.

    Raises:
        BackendUnavailable: it does not work here; the message says why.
        ValueError: there is no back end of that name.
    """
    if name == "auto":
        return _fastest(settings)
    if name not in BACKENDS:
        raise ValueError(f"There is no back end {name!r}; choose one of auto, {', '.join(BACKENDS)}.")
    verdict = probe(BACKENDS[name], settings)
    if not verdict.works:
        raise BackendUnavailable(
            f"The back end {name!r} does not work here: {verdict.reason} Or choose another one; "
            "`impasto doctor` shows which ones work."
        )
    return Choice(BACKENDS[name], f"asked for; {verdict.reason}")


def _fastest(settings: Settings) -> Choice:
    passed: list[str] = []
    for name in AUTO:
        verdict = probe(BACKENDS[name], settings)
        if verdict.works:
            before = f"; not working here: {', '.join(passed)}" if passed else ""
            return Choice(BACKENDS[name], f"the fastest that works{before}")
        passed.append(name)
    raise BackendUnavailable(
        "No back end works here, not even the CPU: install onnxruntime again; `impasto doctor` shows the reasons."
    )
