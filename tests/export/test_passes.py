"""The graph passes on graphs that are not what they expect, and the arithmetic of a slot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edge_sdk.errors import ExportError
from edge_sdk.inference import Slot
from edge_sdk.inference.sessions import open_session
from export.passes import add_lora_slots, clean, fuse_attention

SCOPES = "pkg.torch.onnx.name_scopes"
WEIGHT = np.arange(6, dtype=np.float32).reshape(3, 2)
SLOT = Slot(name="net.to_q", in_features=3, out_features=2)


def linear(op_type: str = "MatMul", scope: str = "net.to_q", copies: int = 1) -> ir.Model:
    """y = x W for x (batch, 3), as torch writes the layer `scope`."""
    x = ir.Value(name="x", shape=ir.Shape(["batch", 3]), type=ir.TensorType(ir.DataType.FLOAT))
    weight = ir.Value(name="w", shape=ir.Shape([3, 2]), const_value=ir.tensor(WEIGHT, name="w"))
    nodes = []
    for _ in range(copies):
        node = ir.node(op_type, [x, weight])
        node.metadata_props[SCOPES] = str(["", "net", scope, "linear"])
        nodes.append(node)
    nodes[0].outputs[0].name = "product"
    nodes[0].outputs[0].shape, nodes[0].outputs[0].dtype = ir.Shape(["batch", 2]), ir.DataType.FLOAT
    last = ir.node("Identity", [nodes[0].outputs[0]])
    last.outputs[0].name, last.outputs[0].shape, last.outputs[0].dtype = "y", ir.Shape(["batch", 2]), ir.DataType.FLOAT
    graph = ir.Graph([x], last.outputs, nodes=[*nodes, last], initializers=[weight], opset_imports={"": 23}, name="g")
    return ir.Model(graph, ir_version=10)


def test_a_slot_adds_the_product_of_its_factors(tmp_path: Path) -> None:
    model = linear()
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


@pytest.mark.parametrize(
    ("model", "slot", "message"),
    [
        (linear(scope="net.other"), SLOT, "0 matrix products belong to layer net.to_q"),
        (linear(copies=2), SLOT, "2 matrix products"),
        (linear("Gemm"), SLOT, "not a plain matrix product"),
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
