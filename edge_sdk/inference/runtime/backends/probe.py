"""Check of a back end: one matrix product is run through it and compared, the only proof that it works."""

from __future__ import annotations

import functools
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_sdk.errors import DeviceError, ImpastoError
from edge_sdk.inference.bundle import Graph, matmul
from edge_sdk.inference.runtime.backends.base import Backend, Session, Settings

# bfloat16 keeps 8 bits: a sum of 64 products of numbers between -1 and 1 is off by less than this.
_TOLERANCE = 0.1
_SIDE = 768
_REPEATS = 5


@dataclass(frozen=True)
class Verdict:
    """The result of a probe: works or not, and the reason in words."""

    works: bool
    reason: str


@functools.cache
def probe(backend: Backend, settings: Settings) -> Verdict:
    """Run one operation on a back end, and nowhere else, and compare. The process remembers the result."""
    if reason := backend.missing():
        return Verdict(False, reason)
    try:
        session = _open(backend, settings)
        return _check(session)
    except ImpastoError as error:
        return Verdict(False, str(error))
    # A driver that is installed in part may raise anything.
    except Exception as error:
        return Verdict(False, f"{type(error).__name__}: {error}")


def rate(backend: Backend, settings: Settings) -> float:
    """Floating-point operations per second in a matrix product; the best of a few runs.

    Raises:
        DeviceError: the back end does not work.
    """
    verdict = probe(backend, settings)
    if not verdict.works:
        raise DeviceError(f"There is nothing to measure: {verdict.reason}")
    session = _open(backend, settings)
    a = np.ones((_SIDE, _SIDE), np.float32)
    session.run(["c"], {"a": a, "b": a})
    return 2 * _SIDE**3 / min(_seconds(session, a) for _ in range(_REPEATS))


def _open(backend: Backend, settings: Settings) -> Session:
    with tempfile.TemporaryDirectory(prefix="impasto-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(matmul())
        return backend.open(Graph(path), Settings(threads=settings.threads, precision=settings.precision, strict=True))


def _check(session: Session) -> Verdict:
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-1, 1, (32, 64)).astype(np.float32), rng.uniform(-1, 1, (64, 48)).astype(np.float32)
    error = float(np.abs(session.run(["c"], {"a": a, "b": b})[0] - a @ b).max())
    # Also refuses NaN.
    if not error < _TOLERANCE:
        return Verdict(False, f"it computes something else: a matrix product was off by {error:.1g}.")
    return Verdict(True, f"ran one operation, off by {error:.0e}")


def _seconds(session: Session, a: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> float:
    began = time.perf_counter()
    session.run(["c"], {"a": a, "b": a})
    return time.perf_counter() - began
