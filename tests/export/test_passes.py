"""The graph passes on graphs that are not what they expect, and the arithmetic of a slot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch

from edge_sdk.errors import ExportError
from edge_sdk.inference import Slot
from edge_sdk.inference.runtime.sessions import open_session
from export.graphs import add_lora_slots, clean, fuse_attention

SCOPES = "pkg.torch.onnx.name_scopes"
WEIGHT = np.arange(6, dtype=np.float32).reshape(3, 2)
SLOT = Slot(name="net.to_q", in_features=3, out_features=2)


def linear(op_type: str = "MatMul", scope: str = "net.to_q", copies: int = 1, **attributes: int) -> ir.Model:
    """y = x W for x (batch, 3), as torch writes the layer `scope`."""
    w = WEIGHT.T.copy() if attributes.get("transB") else WEIGHT
    x = ir.Value(name="x", shape=ir.Shape(["batch", 3]), type=ir.TensorType(ir.DataType.FLOAT))
    weight = ir.Value(name="w", shape=ir.Shape(w.shape), const_value=ir.tensor(w, name="w"))
    nodes = []
    for _ in range(copies):
        node = ir.node(op_type, [x, weight], attributes)
        node.metadata_props[SCOPES] = str(["", "net", scope, "linear"])
        nodes.append(node)
    nodes[0].outputs[0].name = "product"
    nodes[0].outputs[0].shape, nodes[0].outputs[0].dtype = ir.Shape(["batch", 2]), ir.DataType.FLOAT
    last = ir.node("Identity", [nodes[0].outputs[0]])
    last.outputs[0].name, last.outputs[0].shape, last.outputs[0].dtype = "y", ir.Shape(["batch", 2]), ir.DataType.FLOAT
    graph = ir.Graph([x], last.outputs, nodes=[*nodes, last], initializers=[weight], opset_imports={"": 23}, name="g")
    return ir.Model(graph, ir_version=10)


@pytest.mark.parametrize("model", [linear(), linear("Gemm"), linear("Gemm", transB=1)])
def test_a_slot_adds_the_product_of_its_factors(model: ir.Model, tmp_path: Path) -> None:
    add_lora_slots(model, [SLOT])
    ir.save(model, tmp_path / "model.onnx")
    session = open_session(tmp_path / "model.onnx", threads=1)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 3), np.float32)
    np.testing.assert_allclose(session.run(["y"], {"x": x})[0], x @ WEIGHT, rtol=1e-6)
    for rank in (1, 4, 0):
        a, b = rng.standard_normal((3, rank), np.float32), rng.standard_normal((rank, 2), np.float32)
        (y,) = session.run(["y"], {"x": x, SLOT.input_a: a, SLOT.input_b: b})
        np.testing.assert_allclose(y, x @ (WEIGHT + a @ b), atol=1e-5)


def convolution(kernel: tuple[int, int] = (3, 3), group: int = 1, **attributes: list[int]) -> ir.Model:
    """y = conv(x, W), x of 4 channels, y of 6 and a graph output; W is zero."""
    float_ = ir.TensorType(ir.DataType.FLOAT)
    x = ir.Value(name="x", shape=ir.Shape(["batch", 4, "height", "width"]), type=float_)
    zeros = np.zeros((6, 4 // group, *kernel), np.float32)
    weight = ir.Value(name="w", shape=ir.Shape(zeros.shape), type=float_, const_value=ir.tensor(zeros, name="w"))
    node = ir.node("Conv", [x, weight], {"group": group, **attributes})
    node.metadata_props[SCOPES] = str(["", "net", "net.conv1", "conv2d"])
    y = node.outputs[0]
    y.name, y.shape, y.type = "y", ir.Shape(["batch", 6, "height_out", "width_out"]), float_
    graph = ir.Graph([x], [y], nodes=[node], initializers=[weight], opset_imports={"": 23}, name="g")
    return ir.Model(graph, ir_version=10)


@pytest.mark.parametrize(
    ("kernel", "attributes"),
    [
        ((1, 1), {}),
        ((1, 1), {"strides": [2, 2]}),
        ((3, 3), {"pads": [1, 1, 1, 1]}),
        ((3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ((3, 3), {"strides": [2, 1], "pads": [0, 2, 0, 2], "dilations": [1, 2]}),
        ((2, 3), {"pads": [0, 1, 0, 1]}),
    ],
)
def test_a_slot_of_a_convolution_adds_two_convolutions(
    kernel: tuple[int, int], attributes: dict[str, list[int]], tmp_path: Path
) -> None:
    slot = Slot(name="net.conv1", in_features=4 * kernel[0] * kernel[1], out_features=6, kernel=kernel)
    model = convolution(kernel, **attributes)
    add_lora_slots(model, [slot])
    ir.save(model, tmp_path / "model.onnx")
    session = open_session(tmp_path / "model.onnx", threads=1)
    rng = np.random.default_rng(0)
    for rank, size in ((1, (5, 6)), (4, (7, 5)), (0, (5, 6)), (2, (6, 6))):
        x = rng.standard_normal((2, 4, *size), np.float32)
        a, b = rng.standard_normal((rank, 4, *kernel), np.float32), rng.standard_normal((6, rank), np.float32)
        feed = {"x": x, slot.input_a: a.reshape(rank, slot.in_features).T.copy(), slot.input_b: b.T.copy()}
        (y,) = session.run(["y"], feed)
        options = {"stride": attributes.get("strides", 1), "dilation": attributes.get("dilations", 1)}
        padded = torch.nn.functional.pad(torch.from_numpy(x), _pads(attributes.get("pads", [0] * 4)))
        product = torch.from_numpy(np.tensordot(b, a, 1))
        wanted = torch.nn.functional.conv2d(padded, product, **options)  # type: ignore[arg-type]
        np.testing.assert_allclose(y, wanted, atol=1e-4)
        assert not session.run(["y"], {"x": x})[0].any()


def _pads(pads: list[int]) -> list[int]:
    """torch counts from the last axis, ONNX gives all beginnings first."""
    top, left, bottom, right = pads
    return [left, right, top, bottom]


CONV_SLOT = Slot(name="net.conv1", in_features=36, out_features=6, kernel=(3, 3))


@pytest.mark.parametrize(
    ("model", "slot", "message"),
    [
        (linear(scope="net.other"), SLOT, "0 matrix products belong to layer net.to_q"),
        (linear(copies=2), SLOT, "2 matrix products"),
        (linear("Gemm", transA=1), SLOT, "not a plain matrix product"),
        (linear(), CONV_SLOT, "0 convolutions belong to layer net.conv1"),
        (convolution(), Slot(name="net.conv1", in_features=36, out_features=6), "0 matrix products"),
        (convolution(group=2), CONV_SLOT, "not a plain convolution"),
        (convolution((2, 2)), CONV_SLOT, r"weights of shape \[6,4,2,2\]"),
        (linear(), Slot(name="net.to_q", in_features=2, out_features=3), r"weights of shape \[3,2\]"),
    ],
)
def test_unknown_graphs_are_refused(model: ir.Model, slot: Slot, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        add_lora_slots(model, [slot])


def test_a_graph_without_attention_stays_as_it_is() -> None:
    model = linear()
    assert fuse_attention(model) == 0
    assert [node.op_type for node in model.graph] == ["MatMul", "Identity"]


def test_attention_that_is_not_between_reshapes_stays_as_it_is() -> None:
    values = [ir.Value(name=name, shape=ir.Shape([1, 2, 3, 4])) for name in "qkv"]
    node = ir.node("Attention", values)
    graph = ir.Graph(values, node.outputs, nodes=[node], opset_imports={"": 23})
    assert fuse_attention(ir.Model(graph, ir_version=10)) == 0
    assert [node.op_type for node in graph] == ["Attention"]


def test_cleaning_removes_traces() -> None:
    model = linear()
    clean(model, "a layer")
    assert model.doc_string == "a layer"
    assert all(not node.metadata_props for node in model.graph)
