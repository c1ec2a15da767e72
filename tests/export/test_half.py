"""Half precision: the arithmetic stays near float32, and what float16 cannot do is left in float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from edge_sdk.inference import Bundle
from edge_sdk.inference.runtime.sessions import open_session
from export.precision import compute_in_half, store_in_half
from tests.models import LATENT_SHAPE, WIDTH, tiny_bundle

# Ten bits behind the point, some dozens of layers.
HALF_PRECISION = 5e-3


def unet_feed(rank: int = 0) -> dict[str, npt.NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    feed = {
        "sample": rng.standard_normal((2, *LATENT_SHAPE), np.float32),
        "timestep": np.full(2, 981.5, np.float32),
        "encoder_hidden_states": rng.standard_normal((2, 77, WIDTH), np.float32),
    }
    for slot in Bundle.load(tiny_bundle("epsilon")).index.slots if rank else ():
        feed[slot.input_a] = rng.standard_normal((slot.in_features, rank), np.float32) / slot.in_features**0.5
        feed[slot.input_b] = rng.standard_normal((rank, slot.out_features), np.float32) / rank**0.5
    return feed


def converted(stage: str, change: Callable[[ir.Model], None], folder: Path) -> tuple[ir.Model, Path]:
    model = ir.load(tiny_bundle("epsilon") / stage / "model.onnx")
    change(model)
    ir.save(model, folder / "model.onnx")
    return model, folder / "model.onnx"


def relative_error(path: Path, stage: str, feed: dict[str, npt.NDArray[np.float32]]) -> float:
    exact, found = (
        open_session(file, threads=1).run(None, feed)[0]
        for file in (tiny_bundle("epsilon") / stage / "model.onnx", path)
    )
    assert found.dtype == np.float32
    return float(np.abs(found - exact).max() / np.abs(exact).max())


@pytest.mark.parametrize("rank", [0, 16])
def test_the_unet_computes_in_half_with_and_without_an_adapter(tmp_path: Path, rank: int) -> None:
    _, path = converted("unet", compute_in_half, tmp_path)
    assert 1e-6 < relative_error(path, "unet", unet_feed(rank)) < HALF_PRECISION
    plain = tiny_bundle("epsilon") / "unet" / "model.onnx"
    assert path.stat().st_size < 0.65 * plain.stat().st_size


def test_inputs_outputs_and_factors_stay_float32(tmp_path: Path) -> None:
    model, _ = converted("unet", compute_in_half, tmp_path)
    before = ir.load(tiny_bundle("epsilon") / "unet" / "model.onnx").graph
    for kept, was in ((model.graph.inputs, before.inputs), (model.graph.outputs, before.outputs)):
        assert [(value.name, value.dtype) for value in kept] == [(value.name, value.dtype) for value in was]
    weights = [value for value in model.graph.initializers.values() if not value.is_graph_input()]
    large = {value.dtype for value in weights if value.const_value is not None and value.const_value.size > 64}
    assert large == {ir.DataType.FLOAT16}


def test_angles_of_timesteps_stay_float32(tmp_path: Path) -> None:
    model, _ = converted("unet", compute_in_half, tmp_path)
    angles = [node.inputs[0] for node in model.graph if node.op_type in ("Sin", "Cos")]
    assert angles
    assert {value.dtype for value in angles if value is not None} == {ir.DataType.FLOAT}


def test_the_masked_text_encoder_computes_in_half(tmp_path: Path) -> None:
    model, path = converted("text_encoder", compute_in_half, tmp_path)
    ids = np.full((1, 77), 5, np.int64)
    exact, found = (
        open_session(file, threads=1).run(["last_hidden_state"], {"input_ids": ids})[0]
        for file in (tiny_bundle("epsilon") / "text_encoder" / "model.onnx", path)
    )
    assert np.abs(found - exact).max() < HALF_PRECISION * np.abs(exact).max()
    masked = [node for node in model.graph if node.op_type == "Attention"]
    assert {node.attributes["softmax_precision"].as_int() for node in masked} == {ir.DataType.FLOAT}


def test_the_decoder_is_stored_in_half_and_computes_in_float32(tmp_path: Path) -> None:
    latents = {"latent_sample": np.random.default_rng(0).standard_normal((1, *LATENT_SHAPE), np.float32)}
    model, path = converted("vae_decoder", store_in_half, tmp_path)
    assert relative_error(path, "vae_decoder", latents) < HALF_PRECISION
    assert {node.op_type for node in model.graph for value in node.inputs if value and value.dtype == 10} == {"Cast"}
    # Activations far beyond float16's largest number, 65504, are no trouble.
    loud = {"latent_sample": latents["latent_sample"] * np.float32(1e6)}
    assert relative_error(path, "vae_decoder", loud) < 10 * HALF_PRECISION


def linear(weight: npt.NDArray[np.float32]) -> ir.Model:
    x = ir.Value(name="x", shape=ir.Shape(["batch", 2]), type=ir.TensorType(ir.DataType.FLOAT))
    w = ir.Value(name="w", shape=ir.Shape([2, 2]), type=ir.TensorType(ir.DataType.FLOAT))
    w.const_value = ir.tensor(weight, name="w")
    node = ir.node("Add", [x, w])
    node.outputs[0].name, node.outputs[0].shape, node.outputs[0].dtype = "y", ir.Shape([2, 2]), ir.DataType.FLOAT
    graph = ir.Graph([x], node.outputs, nodes=[node], initializers=[w], opset_imports={"": 23}, name="g")
    return ir.Model(graph, ir_version=10)


def test_weights_beyond_half_are_limited_and_infinity_is_kept(tmp_path: Path) -> None:
    weight = np.array([[np.finfo(np.float32).min, -np.inf], [1e6, 0.25]], np.float32)
    model = linear(weight)
    compute_in_half(model)
    ir.save(model, tmp_path / "model.onnx")
    (y,) = open_session(tmp_path / "model.onnx", threads=1).run(["y"], {"x": np.zeros((2, 2), np.float32)})
    np.testing.assert_array_equal(y, np.array([[-65504, -np.inf], [65504, 0.25]], np.float32))
