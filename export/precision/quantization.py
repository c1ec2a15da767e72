"""Eight-bit graphs: static QDQ, activations unsigned, weights signed and per channel, through onnxruntime's quantiser.

Convolutions and products with constant weights compute in int8. Between them everything stays float32: norms,
activations, residual sums, attention itself, and LoRA. Three rules keep pictures good:

    float32 nodes read float32            the quantiser would let LoRA and residual sums read its eight-bit copy of x;
                                          `_read_floats` gives them x, so an adapter is applied to an int8 base exactly
    products give float32                 the result of a MatMul or Gemm is not rounded again before LoRA and bias are
                                          added; a convolution's is, because otherwise it has no int8 kernel
    some layers stay float32              `KEPT`, chosen by the time and the error of each (docs/quantization.md)
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

import onnx_ir as ir
import onnxruntime
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

from export.graphs import PRODUCTS, WEIGHTS, is_lora, replace_graph
from export.precision.calibration import Feeds

# Layers of the UNet, as patterns of their names, that stay float32.
KEPT = ("unet.conv_in", "unet.conv_out", "unet.time_embedding.*", "*.conv_shortcut")
_WARNING, _ERROR = 2, 3


def quantize(
    source: Path,
    target: Path,
    feeds: Sequence[Path],
    *,
    keep: Sequence[str] = KEPT,
) -> int:
    """Write the int8 form of a float32 graph.

    Args:
        source: the graph, its layers named by `export.graphs.name_layers`.
        target: the file to write; large weights go beside it.
        feeds: recorded inputs, from `export.precision.record`.
        keep: patterns of layers that stay float32.

    Returns:
        The number of layers that compute in int8.
    """
    kept = [name for name in _names(source) if is_lora(name) or any(fnmatch(name, pattern) for pattern in keep)]
    with tempfile.TemporaryDirectory(prefix=".int8-", dir=target.parent) as folder, _quiet():
        raw = Path(folder) / "model.onnx"
        quantize_static(
            source,
            raw,
            Feeds(feeds),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(PRODUCTS),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # Seven bits: x86 without VNNI adds two products in 16 bits, which full weights overflow.
            reduce_range=True,
            nodes_to_exclude=kept,
            use_external_data_format=(source.parent / WEIGHTS).exists(),
            # The whole range of recorded values: an adapter needs the room (docs/quantization.md compares the methods).
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "MatMulConstBOnly": True,
                "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"],
            },
        )
        model = ir.load(raw)
        _read_floats(model)
        model.producer_name, model.producer_version = "", ""
        replace_graph(model, target)
    return sum(_is_int8(node) for node in model.graph)


def _names(path: Path) -> list[str]:
    return [node.name or "" for node in ir.load(path).graph]


def _read_floats(model: ir.Model) -> None:
    """Connect float32 nodes that read the eight-bit copy of x to x itself, where x exists.

    The result of an int8 convolution exists as that copy only.
    """
    for node in model.graph:
        rounded = node.inputs[0] if node.op_type == "DequantizeLinear" else None
        quantized = None if rounded is None else rounded.producer()
        if quantized is None or quantized.op_type != "QuantizeLinear":
            continue
        x = quantized.inputs[0]
        producer = None if x is None else x.producer()
        if x is None or (producer is not None and producer.op_type == "Conv" and _is_int8(producer)):
            continue
        for user, index in [(usage.node, usage.idx) for usage in node.outputs[0].uses()]:
            if not _is_int8(user):
                user.replace_input_with(index, x)


def _is_int8(node: ir.Node) -> bool:
    """Return True if a node is a product whose weights are int8."""
    if node.op_type not in PRODUCTS:
        return False
    weight = node.inputs[1]
    producer = None if weight is None else weight.producer()
    return producer is not None and producer.op_type == "DequantizeLinear"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantiser's advice and the runtime's warning about every optional input from the terminal."""
    root, handler = logging.getLogger(), logging.NullHandler()
    level = root.level
    # Without a handler, the first warning would add a permanent one.
    root.addHandler(handler)
    root.setLevel(logging.ERROR)
    onnxruntime.set_default_logger_severity(_ERROR)
    try:
        yield
    finally:
        onnxruntime.set_default_logger_severity(_WARNING)
        root.setLevel(level)
        root.removeHandler(handler)
