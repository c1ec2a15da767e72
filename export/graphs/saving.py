"""Writing of graphs: weights inside the file if they are small, beside it otherwise."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx_ir as ir

WEIGHTS = "model.onnx_data"
# Weights in a file of their own can be mapped into memory instead of being read; below this size it does not pay.
# (One protobuf message holds at most 2 GiB in any case.)
_INLINE_BYTES = 32_000_000


def save_graph(model: ir.Model, path: Path) -> None:
    """Write a graph as `path`; large weights go into model.onnx_data beside it."""
    weights = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    if weights > _INLINE_BYTES:
        ir.save(model, path, external_data=WEIGHTS)
    else:
        # Weights loaded from a file beside another graph would otherwise stay references to it.
        ir.save(ir.external_data.load_to_model(model), path)


def replace_graph(model: ir.Model, path: Path) -> None:
    """Write a graph over `path`, from which `model` may still be reading its weights."""
    with tempfile.TemporaryDirectory(prefix=".graph-", dir=path.parent) as folder:
        save_graph(model, Path(folder) / path.name)
        (path.parent / WEIGHTS).unlink(missing_ok=True)
        for file in Path(folder).iterdir():
            file.replace(path.parent / file.name)


def save_beside_weights(model: ir.Model, path: Path) -> None:
    """Write a graph that was loaded from the same folder; weights in a file of their own stay there."""
    with tempfile.TemporaryDirectory(prefix=".graph-", dir=path.parent) as folder:
        written = Path(folder) / path.name
        ir.save(model, written)
        written.replace(path)
