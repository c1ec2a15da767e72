"""Names of layers in a graph: the module path of every convolution and matrix product in torch.

The exporter names them node_conv2d_7. With their own names, layers can be selected to keep their precision, and the
profile of a drawing can be read.
"""

from __future__ import annotations

import ast

import onnx_ir as ir

PRODUCTS = ("Conv", "MatMul", "Gemm")
_SCOPES = "pkg.torch.onnx.name_scopes"


def name_layers(model: ir.Model) -> None:
    """Name each Conv, MatMul and Gemm by its module ("unet.conv_in"), in place.

    The graph still needs the exporter's metadata. The second product of one module keeps its old name.
    """
    taken = {node.name for node in model.graph}
    for node in model.graph:
        if node.op_type in PRODUCTS and (scopes := node.metadata_props.get(_SCOPES)):
            # The last scope is the operation; the module is the one before.
            layer = ast.literal_eval(scopes)[-2]
            if layer and layer not in taken:
                taken.add(layer)
                node.name = layer
