"""Metadata of torch's exporter in a graph: the module path of each node in torch, read for names, then removed.

The exporter names layers node_conv2d_7. With their own names, layers can be selected to keep their precision, and the
profile of a drawing can be read.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable

import onnx_ir as ir

PRODUCTS = ("Conv", "MatMul", "Gemm")
_SCOPES = "pkg.torch.onnx.name_scopes"


def module_path(node: ir.Node) -> str | None:
    """Return the path of the module in torch that a node is of ("unet.conv_in"); None if it has no metadata."""
    scopes = node.metadata_props.get(_SCOPES)
    # The last scope is the operation; the module is the one before.
    return str(ast.literal_eval(scopes)[-2]) if scopes else None


def name_layers(model: ir.Model) -> None:
    """Name each Conv, MatMul and Gemm by its module ("unet.conv_in"), in place.

    The graph still needs the exporter's metadata. The second product of one module keeps its old name.
    """
    taken = {node.name for node in model.graph}
    for node in model.graph:
        if node.op_type in PRODUCTS and (layer := module_path(node)) and layer not in taken:
            taken.add(layer)
            node.name = layer


def clean(model: ir.Model, description: str) -> None:
    """Remove the exporter's metadata (source lines and local paths), so that equal weights give equal files."""
    model.metadata_props.clear()
    model.doc_string = description
    model.graph.metadata_props.clear()
    values: Iterable[ir.Value] = [*model.graph.inputs, *model.graph.initializers.values()]
    for value in values:
        value.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for output in node.outputs:
            output.metadata_props.clear()
