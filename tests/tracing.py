"""Graphs of equal networks, traced once in a test session.

torch traces a network for most of the time that an export takes, and the tiny models have much in common: one text
encoder and one autoencoder, and one UNet for several schedulers. Tests of something else than tracing take graphs from
here, and every one of them gets a copy of what the real export wrote.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import onnx_ir as ir

from export.source import Part, to_onnx
from tests.models import once


def trace(part: Part) -> ir.Model:
    """Return the graph that `to_onnx` makes of this part, or has made of an equal one."""
    folder = once(f"traces/{_digest(part)}", lambda made: (made.mkdir(), ir.save(to_onnx(part), made / "model.onnx")))
    return ir.load(folder / "model.onnx")


@contextmanager
def traced_once() -> Iterator[None]:
    """Exports in here take their graphs from `trace`."""
    with patch("export.bundle.to_onnx", trace):
        yield


def _digest(part: Part) -> str:
    """Hash of all that a graph follows from: the network's class, settings and weights, and how it is called."""
    config = part.network.config
    settings = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    place = {"_name_or_path", "name_or_path"}
    called = part.call.__qualname__, part.outputs, str(part.dynamic), part.step
    said = [
        *(part.name, type(part.network).__qualname__, *called),
        {name: str(value) for name, value in sorted(settings.items()) if name not in place},
    ]
    digest = hashlib.sha256(json.dumps(said).encode())
    for name, weight in part.network.state_dict().items():
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.numpy().tobytes())
    return digest.hexdigest()[:32]
