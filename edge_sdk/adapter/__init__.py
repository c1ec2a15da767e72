"""LoRA adapters as numpy arrays: the model, the file, the algebra. Needs neither torch nor a network."""

from __future__ import annotations

from edge_sdk.adapter.algebra import (
    Bases,
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
from edge_sdk.adapter.decomposition import svd
from edge_sdk.adapter.file import from_bytes, load, matrices_from_bytes, matrices_to_bytes, save, to_bytes
from edge_sdk.adapter.initial import filled_up, initial_adapter, initial_factors
from edge_sdk.adapter.layers import LAYER_SETS, LayerSet, in_layer_set
from edge_sdk.adapter.model import (
    MAX_LAYERS,
    MAX_MAGNITUDE,
    MAX_RANK,
    Adapter,
    Factors,
    Kernel,
    Shape,
    check,
    check_fit,
    check_values,
)
from edge_sdk.adapter.share import Share, beginning, complete, core, fit, frames, orthonormal, pack, remainder

__all__ = [
    "LAYER_SETS",
    "MAX_LAYERS",
    "MAX_MAGNITUDE",
    "MAX_RANK",
    "Adapter",
    "Bases",
    "Factors",
    "Kernel",
    "LayerSet",
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
    "in_layer_set",
    "initial_adapter",
    "initial_factors",
    "inner_product",
    "left_basis",
    "load",
    "matrices_from_bytes",
    "matrices_to_bytes",
    "mean",
    "norm",
    "orthonormal",
    "pack",
    "remainder",
    "save",
    "scale",
    "subspace_similarity",
    "svd",
    "to_bytes",
    "truncate",
]
