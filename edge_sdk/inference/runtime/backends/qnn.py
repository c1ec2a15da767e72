"""Qualcomm's neural processor through QNN.

It runs quantised graphs, and leaves others to the CPU, where ONNX Runtime alone is faster. So `auto` never takes it.
"""

from __future__ import annotations

from edge_sdk.inference.runtime.backends.providers import Provider


class Qnn(Provider):
    """ONNX Runtime's QNN execution provider."""

    name = "qnn"
    title = "ONNX Runtime, QNN"
    provider = "QNNExecutionProvider"
    install = "install onnxruntime-qnn instead of onnxruntime, on a Snapdragon with Windows or Linux"
