"""The base model on disk: the exported bundle, and the diffusers folder that it is made of.

index.py        the bundle, checked, and its impasto.json
base_id.py      the identity of a base model
base_model.py   the configurations of its diffusers folder
graph.py        a graph on disk
onnx_file.py    just enough of the ONNX format
"""

from __future__ import annotations

from edge_sdk.inference.bundle.base_id import COMPONENTS, compute_base_id, weight_files, weight_variant
from edge_sdk.inference.bundle.base_model import MODEL_INDEX, Config, obstacle_in, read_config
from edge_sdk.inference.bundle.graph import WEIGHTS, Graph
from edge_sdk.inference.bundle.index import (
    BASIS,
    DEEP,
    IMAGE_ENCODER,
    INDEX,
    SHALLOW,
    Bundle,
    BundleIndex,
    BundlePrecision,
    Defaults,
    Fused,
    ImageEncoder,
    Pipeline,
    PromptBasis,
    Slot,
    graph_file,
    hash_files,
    sha256_of,
    write_index,
)
from edge_sdk.inference.bundle.onnx_file import drop_defaults, matmul

__all__ = [
    "BASIS",
    "COMPONENTS",
    "DEEP",
    "IMAGE_ENCODER",
    "INDEX",
    "MODEL_INDEX",
    "SHALLOW",
    "WEIGHTS",
    "Bundle",
    "BundleIndex",
    "BundlePrecision",
    "Config",
    "Defaults",
    "Fused",
    "Graph",
    "ImageEncoder",
    "Pipeline",
    "PromptBasis",
    "Slot",
    "compute_base_id",
    "drop_defaults",
    "graph_file",
    "hash_files",
    "matmul",
    "obstacle_in",
    "read_config",
    "sha256_of",
    "weight_files",
    "weight_variant",
    "write_index",
]
