"""Half precision: graphs that compute in float16, and graphs that only store their weights in float16.

`compute_in_half` is for graphics processors. Inputs and outputs stay float32 and are cast inside, LoRA factors too, so
that a device feeds the same arrays to every bundle. Operations that float16 cannot represent stay float32:

    Sin, Cos and all their inputs         timesteps: float16 has no digits behind the point for an angle of 999
    Softmax                               sums of many exponentials; MultiHeadAttention's own kernels sum in float32,
                                          and the remaining Attention nodes are told to
    constants that are made in the graph  cast where they are used

`store_in_half` halves the file and leaves the arithmetic in float32: a Cast follows each weight, which ONNX Runtime
folds when it loads the graph. It is for autoencoders, because their activations overflow float16 (SDXL's for certain,
Stable Diffusion's with some pictures), and they run only once a picture.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

_FLOAT, _HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16
_LARGEST = float(np.finfo(np.float16).max)
_ANGLES = ("Sin", "Cos")
_KEPT = (*_ANGLES, "Softmax", "Constant", "ConstantOfShape", "Range")
# Inputs that an operator needs in float32 whatever its data is: Resize's region and scales.
_FLOAT_INPUTS = {"Resize": (1, 2)}
# Smaller weights are not worth a node.
_WORTH_CASTING = 1024


def compute_in_half(model: ir.Model) -> None:
    """Let a float32 graph compute in float16, in place; inputs and outputs stay as they are."""
    graph = model.graph
    kept = _kept(graph)
    casts = _Casts(graph)
    for node in list(graph):
        wanted = _FLOAT if node in kept else _HALF
        for index, value in enumerate(node.inputs):
            if value is not None and index not in _FLOAT_INPUTS.get(node.op_type, ()):
                node.replace_input_with(index, casts.to(wanted, value))
        if wanted == _HALF:
            _retype(node)
    for index, value in enumerate(list(graph.outputs)):
        if value.dtype == _HALF:
            name, value.name = value.name, f"{value.name}_half"
            output = casts.to(_FLOAT, value)
            output.name = name
            graph.outputs[index] = output
    _drop_unused(graph)


def store_in_half(model: ir.Model) -> None:
    """Store the weights of a float32 graph as float16, in place, each with a Cast that ONNX Runtime folds."""
    graph = model.graph
    casts = _Casts(graph)
    for value in list(graph.initializers.values()):
        weight = value.const_value
        if (
            value.dtype == _FLOAT
            and not value.is_graph_input()
            and weight is not None
            and weight.size >= _WORTH_CASTING
        ):
            users = [(usage.node, usage.idx) for usage in value.uses()]
            restored = casts.to(_FLOAT, casts.to(_HALF, value))
            for node, index in users:
                node.replace_input_with(index, restored)
    _drop_unused(graph)


class _Casts:
    """Values of a graph in another precision, each made once."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._made: dict[ir.Value, ir.Value] = {}

    def to(self, wanted: ir.DataType, value: ir.Value) -> ir.Value:
        """Return `value` as `wanted`; itself if it is so already, or is no floating-point number."""
        if value.dtype == wanted or value.dtype not in (_FLOAT, _HALF):
            return value
        if value not in self._made:
            constant = value.is_initializer() and not value.is_graph_input() and wanted == _HALF
            self._made[value] = self._rounded(value) if constant else self._cast(wanted, value)
        return self._made[value]

    def _cast(self, wanted: ir.DataType, value: ir.Value) -> ir.Value:
        suffix = "half" if wanted == _HALF else "float"
        node = ir.node("Cast", [value], {"to": wanted}, name=f"{value.name}_to_{suffix}")
        made = node.outputs[0]
        made.name, made.shape, made.dtype = f"{value.name}_{suffix}", value.shape, wanted
        producer = value.producer()
        if producer is None:
            self._graph.insert_before(self._graph[0], node)
        else:
            self._graph.insert_after(producer, node)
        return made

    def _rounded(self, value: ir.Value) -> ir.Value:
        assert value.const_value is not None
        exact = value.const_value.numpy()
        # Masks contain the smallest float32, which would become infinite.
        finite = np.where(np.isinf(exact), exact, exact.clip(-_LARGEST, _LARGEST))
        name = f"{value.name}_half"
        rounded = ir.Value(name=name, shape=value.shape, type=ir.TensorType(_HALF))
        rounded.const_value = ir.tensor(finite.astype(np.float16), name=name)
        self._graph.initializers[name] = rounded
        return rounded


def _kept(graph: ir.Graph) -> set[ir.Node]:
    """Return the nodes that stay float32."""
    kept = {node for node in graph if node.op_type in _KEPT}
    ahead = [node for node in graph if node.op_type in _ANGLES]
    while ahead:
        for value in ahead.pop().inputs:
            producer = None if value is None else value.producer()
            if producer is not None and producer not in kept:
                kept.add(producer)
                ahead.append(producer)
    return kept


def _retype(node: ir.Node) -> None:
    """Set the types of a node's outputs, now that its inputs are float16."""
    if node.op_type == "Cast" and node.attributes["to"].as_int() == _FLOAT:
        node.attributes["to"] = ir.AttrInt64("to", _HALF)
    if node.op_type == "Attention" and node.domain == "":
        node.attributes["softmax_precision"] = ir.AttrInt64("softmax_precision", _FLOAT)
    halved = bool(node.inputs) and node.inputs[0] is not None and node.inputs[0].dtype == _HALF
    for output in node.outputs:
        if output.dtype == _FLOAT or (output.dtype is None and halved):
            output.dtype = _HALF


def _drop_unused(graph: ir.Graph) -> None:
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_input() and not value.is_graph_output():
            del graph.initializers[name]
