"""Attention kernels: the Attention that torch writes becomes the one that ONNX Runtime computes fastest.

`fuse_attention` replaces the opset-23 Attention on (batch, heads, tokens, size) by the contrib kernel
com.microsoft.MultiHeadAttention on (batch, tokens, heads * size): the four reshapes and transposes around it disappear,
and the CPU runs flash attention instead of forming the whole score matrix.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

_CONTRIB = "com.microsoft"
_HEADS_FIRST = (0, 2, 1, 3)


def fuse_attention(model: ir.Model) -> int:
    """Rewrite every unmasked Attention node in place; return their number. Masked ones (the text encoder's) stay."""
    fused = 0
    for node in list(model.graph):
        if node.op_type == "Attention" and node.domain == "":
            fused += _fuse(model.graph, node)
    if fused:
        model.opset_imports[_CONTRIB] = 1
        RemoveUnusedNodesPass()(model)
    return fused


def _fuse(graph: ir.Graph, node: ir.Node) -> int:
    """Replace `node` if it is plain reshape - transpose - attention - transpose - reshape; return 1 if so, else 0."""
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
    """Return x (batch, tokens, heads * size) if `value` is its split into heads, else None."""
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
    """Return the only use of `value` with its heads merged again, (batch, tokens, heads * size), else None."""
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
