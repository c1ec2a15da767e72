"""LoRA adapters as numpy arrays: the model, the file, the algebra. Needs neither torch nor a network."""

from __future__ import annotations

from edge_sdk.adapter.algebra import (
    align,
    basis_similarity,
    concatenate,
    cosine,
    distance,
    inner_product,
    left_basis,
    mean,
    norm,
    scale,
    subspace_similarity,
    truncate,
)
from edge_sdk.adapter.file import from_bytes, load, save, to_bytes
from edge_sdk.adapter.initial import filled_up, initial_adapter, initial_factors
from edge_sdk.adapter.model import (
    MAX_LAYERS,
    MAX_MAGNITUDE,
    MAX_RANK,
    Adapter,
    Factors,
    Shape,
    check,
    check_fit,
    check_values,
)
from edge_sdk.adapter.share import TRAINED, Share, beginning, complete, core, fit, frames, orthonormal, pack, remainder

__all__ = [
    "MAX_LAYERS",
    "MAX_MAGNITUDE",
    "MAX_RANK",
    "TRAINED",
    "Adapter",
    "Factors",
    "Shape",
    "Share",
    "align",
    "basis_similarity",
    "beginning",
    "check",
    "check_fit",
    "check_values",
    "complete",
    "concatenate",
    "core",
    "cosine",
    "distance",
    "filled_up",
    "fit",
    "frames",
    "from_bytes",
    "initial_adapter",
    "initial_factors",
    "inner_product",
    "left_basis",
    "load",
    "mean",
    "norm",
    "orthonormal",
    "pack",
    "remainder",
    "save",
    "scale",
    "subspace_similarity",
    "to_bytes",
    "truncate",
]
