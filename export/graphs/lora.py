"""LoRA slots in a graph: optional inputs A and B, whose product is added to a layer's result.

A (in, r) and B (r, out) are PEFT's factors transposed, a convolution's A flattened. The weights' names do not survive
the exporter's constant folding, so layers are found by the module path that every node keeps in its metadata. Each slot
has a rank symbol of its own: with one symbol for all, ONNX Runtime reuses buffers of the wrong shape as soon as an
adapter covers only some layers or mixes ranks. A rank-0 initializer of the same name makes an input optional.

    linear layers   y + (x A) B
    convolutions    y + B^T D    with D (n, r, pixels) = conv(x, A): same strides, padding and dilations

OpenVINO refuses a convolution whose weights are an input of unknown rank. So D is computed in two steps that it
accepts: a matrix product gives, at every pixel of x, r numbers for each place of the kernel, and a convolution with
constant ones and zeros adds up those at the right places. This is exact and works at rank 0, where the parts are empty.
The adding up takes area/channels of the product's work; a 1x1 kernel needs the product only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edge_sdk.inference.bundle import Slot
from export.graphs.errors import unexpected_graph
from export.graphs.metadata import module_path

_FLOAT, _INT = ir.DataType.FLOAT, ir.DataType.INT64


def add_lora_slots(model: ir.Model, slots: Sequence[Slot]) -> None:
    """Add the LoRA inputs of `slots` in place; the slots' names are module paths of the exported module.

    Raises:
        ExportError: a slot's layer is not in the graph exactly once, or has other shapes there.
    """
    products, convolutions = _by_scope(model.graph, ("MatMul", "Gemm")), _by_scope(model.graph, ("Conv",))
    for number, slot in enumerate(slots):
        kind, known = ("matrix products", products) if slot.kernel is None else ("convolutions", convolutions)
        found = known.get(slot.name, [])
        if len(found) != 1:
            raise unexpected_graph(f"{len(found)} {kind} belong to layer {slot.name}, expected one")
        (_add_linear if slot.kernel is None else _add_convolution)(_Branch(model.graph, found[0], slot, number))


def is_lora(name: str) -> bool:
    """Return True if a node of this name belongs to a LoRA slot."""
    return ".lora_" in name


def _by_scope(graph: ir.Graph, op_types: Sequence[str]) -> dict[str, list[ir.Node]]:
    """Return module path -> the nodes of these types that belong to that module itself, not to a part of it."""
    found: dict[str, list[ir.Node]] = {}
    for node in graph:
        if node.op_type in op_types and (module := module_path(node)) is not None:
            found.setdefault(module, []).append(node)
    return found


class _Branch:
    """The branch beside one layer: its inputs `a` and `b`, and its nodes in the order of adding."""

    def __init__(self, graph: ir.Graph, layer: ir.Node, slot: Slot, number: int) -> None:
        self.layer, self.slot = layer, slot
        self._graph = graph
        self._nodes: list[ir.Node] = []
        rank = ir.SymbolicDim(f"rank_{number}")
        self.a = self._optional_input(slot.input_a, (slot.in_features, rank))
        self.b = self._optional_input(slot.input_b, (rank, slot.out_features))

    @property
    def x(self) -> ir.Value:
        """Input of the layer."""
        value = self.layer.inputs[0]
        assert value is not None
        return value

    @property
    def base(self) -> ir.Value:
        """Result of the layer without an adapter."""
        return self.layer.outputs[0]

    def node(
        self,
        what: str,
        op_type: str,
        inputs: Sequence[ir.Value],
        attributes: Mapping[str, Any] | None = None,
        dtype: ir.DataType = _FLOAT,
    ) -> ir.Value:
        """Add a node called "<layer>.lora_<what>" and return its result."""
        node = ir.node(op_type, inputs, attributes or {}, name=f"{self.slot.name}.lora_{what}")
        value = node.outputs[0]
        value.name, value.dtype = f"{node.name}_output", dtype
        self._nodes.append(node)
        return value

    def reshaped(self, what: str, value: ir.Value, shape: Sequence[int]) -> ir.Value:
        return self.node(what, "Reshape", [value, self.sizes(shape)])

    def sizes(self, sizes: Sequence[int]) -> ir.Value:
        """Return a constant list of sizes, which slots share."""
        return self.constant("_".join(map(str, sizes)), np.array(sizes, np.int64))

    def constant(self, what: str, array: npt.NDArray[Any]) -> ir.Value:
        """Return a constant that slots share."""
        name = f"lora_constant_{what}"
        if name not in self._graph.initializers:
            value = ir.Value(name=name, shape=ir.Shape(array.shape), const_value=ir.tensor(array, name=name))
            value.dtype = _INT if array.dtype == np.int64 else _FLOAT
            self._graph.initializers[name] = value
        return self._graph.initializers[name]

    def finish(self, up: ir.Value) -> None:
        """Add `up` to the layer's result wherever the result is used."""
        base = self.base
        users = [(usage.node, usage.idx) for usage in base.uses() if usage.node not in self._nodes]
        total = self.node("add", "Add", [base, up])
        for value in (up, total):
            value.shape, value.type = base.shape, base.type
        for user, index in users:
            user.replace_input_with(index, total)
        for index, output in enumerate(list(self._graph.outputs)):
            if output is base:
                base.name, total.name = total.name, base.name
                self._graph.outputs[index] = total
        self._graph.insert_after(self.layer, self._nodes)

    def _optional_input(self, name: str, shape: tuple[int | ir.SymbolicDim, ...]) -> ir.Value:
        empty = np.zeros([size if isinstance(size, int) else 0 for size in shape], np.float32)
        value = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(_FLOAT))
        value.const_value = ir.tensor(empty, name=name)
        self._graph.inputs.append(value)
        self._graph.initializers[name] = value
        return value


def _add_linear(branch: _Branch) -> None:
    slot, layer = branch.slot, branch.layer
    weight = layer.inputs[1]
    flags = {name: attribute.as_int() for name in ("transA", "transB") if (attribute := layer.attributes.get(name))}
    if weight is None or weight.shape is None or flags.get("transA"):
        raise unexpected_graph(f"layer {slot.name} is not a plain matrix product")
    wanted = (slot.in_features, slot.out_features)
    if tuple(weight.shape) != (wanted[::-1] if flags.get("transB") else wanted):
        raise unexpected_graph(f"layer {slot.name} has weights of shape {weight.shape}")
    down = branch.node("down", "MatMul", [branch.x, branch.a])
    branch.finish(branch.node("up", "MatMul", [down, branch.b]))


def _add_convolution(branch: _Branch) -> None:
    slot, conv = branch.slot, branch.layer
    weight, group = conv.inputs[1], conv.attributes.get("group")
    assert slot.kernel is not None
    height, width = slot.kernel
    area = height * width
    channels = slot.in_features // area
    if weight is None or weight.shape is None or (group is not None and group.as_int() != 1):
        raise unexpected_graph(f"layer {slot.name} is not a plain convolution")
    if tuple(weight.shape) != (slot.out_features, channels, height, width):
        raise unexpected_graph(f"layer {slot.name} has weights of shape {weight.shape}")
    # (channels * area, r) -> (r * area, channels)
    a = branch.reshaped("a_split", branch.a, (channels, area, -1))
    a = branch.reshaped("a", branch.node("a_turned", "Transpose", [a], {"perm": [2, 1, 0]}), (-1, channels))
    b = branch.node("b", "Transpose", [branch.b], {"perm": [1, 0]})
    down = branch.node("down", "MatMul", [a, branch.reshaped("x", branch.x, (0, 0, -1))])
    if not _keeps_pixels(conv, slot.kernel):
        down = _gathered(branch, down, slot.kernel)
    up = branch.node("up_flat", "MatMul", [b, down])
    whole = branch.node("size", "Shape", [branch.base], dtype=_INT)
    branch.finish(branch.node("up", "Reshape", [up, whole]))


def _keeps_pixels(conv: ir.Node, kernel: tuple[int, int]) -> bool:
    """Return True if every pixel of the result depends on the same pixel of x alone."""
    ones = conv.attributes.get("strides")
    zeros = conv.attributes.get("pads")
    return (
        kernel == (1, 1)
        and (ones is None or all(stride == 1 for stride in ones.as_ints()))
        and (zeros is None or not any(zeros.as_ints()))
    )


def _gathered(branch: _Branch, spread: ir.Value, kernel: tuple[int, int]) -> ir.Value:
    """Return D (n, r, pixels of the result).

    Args:
        spread: (n, r * area, pixels of x), the values of A for each place of the kernel, at the pixels of x.
    """
    area = kernel[0] * kernel[1]
    ones = np.eye(area, dtype=np.float32).reshape(1, area, *kernel)
    conv = branch.layer
    sides = branch.node("x_sides", "Shape", [branch.x], {"start": 2}, _INT)
    shape = branch.node("spread_size", "Concat", [branch.sizes((-1, area)), sides], {"axis": 0}, _INT)
    spread = branch.node("spread", "Reshape", [spread, shape])
    # n * r pictures, each with one channel for each place.
    inputs = [spread, branch.constant("places_{}x{}".format(*kernel), ones)]
    gathered = branch.node("gather", "Conv", inputs, dict(conv.attributes))
    # The sizes besides the rank are given, so that the rank is inferred, also 0.
    flat = branch.reshaped("flat", branch.base, (0, 0, -1))
    batch = branch.node("batch", "Shape", [flat], {"start": 0, "end": 1}, _INT)
    pixels = branch.node("pixels", "Shape", [flat], {"start": 2}, _INT)
    shape = branch.node("gathered_size", "Concat", [batch, branch.sizes((-1,)), pixels], {"axis": 0}, _INT)
    return branch.node("gathered", "Reshape", [gathered, shape])
