"""What is done to the ONNX graphs after torch has written them.

`fuse_attention` replaces the opset-23 Attention on (batch, heads, tokens, size) by the contrib kernel
com.microsoft.MultiHeadAttention on (batch, tokens, heads * size): the four reshapes and transposes around it go away
and the CPU runs flash attention instead of forming the whole score matrix.

`add_lora_slots` gives linear layers the optional inputs A (in, r) and B (r, out) and adds (x A) B to their result. The
weights' names do not survive the exporter's constant folding, so layers are found by the module path that every node
keeps in its metadata. Each slot has a rank symbol of its own: with one symbol for all, ONNX Runtime reuses buffers of
the wrong shape as soon as an adapter covers only some layers or mixes ranks. A rank-0 initializer of the same name
makes an input optional.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edge_sdk.inference.bundle import Slot
from export.errors import unexpected_graph

_SCOPES = "pkg.torch.onnx.name_scopes"
_CONTRIB = "com.microsoft"
_HEADS_FIRST = (0, 2, 1, 3)


def fuse_attention(model: ir.Model) -> int:
    """Rewrite every unmasked Attention node in place; returns how many. Masked ones (the text encoder's) stay."""
    fused = 0
    for node in list(model.graph):
        if node.op_type == "Attention" and node.domain == "":
            fused += _fuse(model.graph, node)
    if fused:
        model.opset_imports[_CONTRIB] = 1
        RemoveUnusedNodesPass()(model)
    return fused


def add_lora_slots(model: ir.Model, slots: Sequence[Slot]) -> None:
    """Add the LoRA inputs of `slots` in place; the slots' names are module paths of the exported module.

    Raises:
        ExportError: a slot's layer is not in the graph exactly once, or has other shapes there.
    """
    products = _products_by_scope(model.graph)
    for number, slot in enumerate(slots):
        found = products.get(slot.name, [])
        if len(found) != 1:
            raise unexpected_graph(f"{len(found)} matrix products belong to layer {slot.name}, expected one")
        _add_slot(model.graph, found[0], slot, ir.SymbolicDim(f"rank_{number}"))


def clean(model: ir.Model, description: str) -> None:
    """Drop the exporter's traces (they hold source lines and local paths): equal weights make equal files."""
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


def _fuse(graph: ir.Graph, node: ir.Node) -> int:
    """1 if `node` was replaced, 0 if it is not plain reshape - transpose - attention - transpose - reshape."""
    given = [value for value in node.inputs if value is not None]
    is_causal = node.attributes.get("is_causal")
    if len(given) != 3 or (is_causal is not None and is_causal.as_int()):
        return 0
    flat = [_before_split(value) for value in given]
    merged = _after_merge(node.outputs[0])
    heads = given[0].shape[1] if given[0].shape is not None else None
    if any(value is None for value in flat) or merged is None or not isinstance(heads, int):
        return 0
    attributes = [ir.AttrInt64("num_heads", heads)]
    if (scale := node.attributes.get("scale")) is not None:
        attributes.append(ir.AttrFloat32("scale", scale.as_float()))
    fused = ir.Node(_CONTRIB, "MultiHeadAttention", flat, attributes, name=f"{node.name}_fused")
    fused.outputs[0].name = f"{merged.name}_fused"
    fused.outputs[0].shape, fused.outputs[0].type = merged.shape, merged.type
    fused.metadata_props.update(node.metadata_props)
    graph.insert_before(node, fused)
    merged.replace_all_uses_with(fused.outputs[0], replace_graph_outputs=True)
    return 1


def _before_split(value: ir.Value) -> ir.Value | None:
    """x (batch, tokens, heads * size), if `value` is its split into heads, else None."""
    transpose = value.producer()
    if transpose is None or transpose.op_type != "Transpose" or _permutation(transpose) != _HEADS_FIRST:
        return None
    split = transpose.inputs[0]
    reshape = None if split is None else split.producer()
    if reshape is None or reshape.op_type != "Reshape":
        return None
    flat = reshape.inputs[0]
    return flat if flat is not None and flat.shape is not None and len(flat.shape) == 3 else None


def _after_merge(value: ir.Value) -> ir.Value | None:
    """The one use of `value` with its heads merged again, (batch, tokens, heads * size), else None."""
    for op_type in ("Transpose", "Reshape"):
        users = [usage.node for usage in value.uses()]
        if len(users) != 1 or users[0].op_type != op_type:
            return None
        if op_type == "Transpose" and _permutation(users[0]) != _HEADS_FIRST:
            return None
        value = users[0].outputs[0]
    return value if value.shape is not None and len(value.shape) == 3 else None


def _permutation(transpose: ir.Node) -> tuple[int, ...]:
    return tuple(transpose.attributes["perm"].as_ints())


def _products_by_scope(graph: ir.Graph) -> dict[str, list[ir.Node]]:
    """Module path -> the MatMul or Gemm nodes that torch wrote for that module itself, not for a part of it."""
    products: dict[str, list[ir.Node]] = {}
    for node in graph:
        if node.op_type in ("MatMul", "Gemm") and (scopes := node.metadata_props.get(_SCOPES)):
            # The last scope is the operation, the one before it the module.
            products.setdefault(ast.literal_eval(scopes)[-2], []).append(node)
    return products


def _add_slot(graph: ir.Graph, product: ir.Node, slot: Slot, rank: ir.SymbolicDim) -> None:
    x, weight = product.inputs[0], product.inputs[1]
    if product.op_type != "MatMul" or x is None or weight is None or weight.shape is None:
        raise unexpected_graph(f"layer {slot.name} is not a plain matrix product")
    if tuple(weight.shape) != (slot.in_features, slot.out_features):
        raise unexpected_graph(f"layer {slot.name} has weights of shape {weight.shape}")
    base = product.outputs[0]
    a = _optional_input(graph, slot.input_a, (slot.in_features, rank))
    b = _optional_input(graph, slot.input_b, (rank, slot.out_features))
    down = ir.node("MatMul", [x, a], name=f"{slot.name}.lora_down")
    up = ir.node("MatMul", [down.outputs[0], b], name=f"{slot.name}.lora_up")
    total = ir.Node("", "Add", [base, up.outputs[0]], name=f"{slot.name}.lora_add")
    for node in (down, up, total):
        node.outputs[0].name = f"{node.name}_output"
    for value in (up.outputs[0], total.outputs[0]):
        value.shape, value.type = base.shape, base.type
    users = [(usage.node, usage.idx) for usage in base.uses()]
    for user, index in users:
        if user is not total:
            user.replace_input_with(index, total.outputs[0])
    graph.insert_after(product, [down, up, total])


def _optional_input(graph: ir.Graph, name: str, shape: tuple[int | ir.SymbolicDim, ...]) -> ir.Value:
    empty = np.zeros([size if isinstance(size, int) else 0 for size in shape], np.float32)
    value = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))
    value.const_value = ir.tensor(empty, name=name)
    graph.inputs.append(value)
    graph.initializers[name] = value
    return value
