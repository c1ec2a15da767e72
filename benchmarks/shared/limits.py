"""This processor's fastest matrix products, in the arithmetic of each row: a limit that no step can beat by much.

Convolutions by Winograd's method may, as they need fewer operations than are counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_sdk.errors import ImpastoError
from edge_sdk.inference.bundle import Graph
from edge_sdk.inference.runtime import BACKENDS, Session, Settings

# Pixels x channels x channels of the layers that take most of a step's time at 512 x 512, with four times as many
# pixels: large enough for the start of threads not to count.
_ROWS, _INNER, _COLUMNS = 4096, 1280, 1280
_REPEATS = 7


def rates() -> dict[str, float]:
    """Operations per second (a multiplication and an addition are two): "fp32" and "int8" through ONNX Runtime, "bf16"
    through OpenVINO; kinds that this machine cannot do are left out."""
    with TemporaryDirectory(prefix="impasto-benchmark-", ignore_cleanup_errors=True) as folder:
        plain, quantized = Path(folder) / "plain.onnx", Path(folder) / "int8.onnx"
        onnx.save(_plain(), plain)
        onnx.save(_quantized(), quantized)
        openers: dict[str, Callable[[], Session]] = {
            "fp32": lambda: BACKENDS["cpu"].open(Graph(plain), Settings()),
            "int8": lambda: BACKENDS["cpu"].open(Graph(quantized), Settings()),
            "bf16": lambda: BACKENDS["openvino"].open(Graph(plain), Settings(precision="bf16")),
        }
        measured = {kind: _rate(opened) for kind, opened in openers.items()}
        return {kind: rate for kind, rate in measured.items() if rate is not None}


def _rate(opened: Callable[[], Session]) -> float | None:
    try:
        session = opened()
    except ImpastoError:
        return None
    x = np.random.default_rng(0).standard_normal((_ROWS, _INNER), np.float32)
    seconds: list[float] = []
    for _ in range(_REPEATS + 1):
        began = time.perf_counter()
        session.run(["y"], {"x": x})
        seconds.append(time.perf_counter() - began)
    return 2 * _ROWS * _INNER * _COLUMNS / min(seconds[1:])


def _plain() -> onnx.ModelProto:
    return _model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": _weights()})


def _quantized() -> onnx.ModelProto:
    """A product in int8 as the export writes it: activations unsigned, weights signed, one scale for each column."""
    scales = np.abs(_weights()).max(axis=0) / 127
    constants = {
        "w8": np.round(_weights() / scales).astype(np.int8),
        "ws": scales.astype(np.float32),
        "wz": np.zeros(_COLUMNS, np.int8),
        "xs": np.array(8 / 255, np.float32),
        "xz": np.array(128, np.uint8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["x8"]),
        helper.make_node("DequantizeLinear", ["x8", "xs", "xz"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w8", "ws", "wz"], ["wd"], axis=1),
        helper.make_node("MatMul", ["xd", "wd"], ["y"]),
    ]
    return _model(nodes, constants)


def _weights() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(1).standard_normal((_INNER, _COLUMNS), np.float32)


def _model(
    nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [_ROWS, _INNER])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [_ROWS, _COLUMNS])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
