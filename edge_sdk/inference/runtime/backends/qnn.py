"""Qualcomm's neural processor through QNN.

It runs quantised graphs, and leaves others to the CPU, where ONNX Runtime is faster on its own: never taken by `auto`.
"""

from __future__ import annotations

from edge_sdk.inference.runtime.backends.providers import Provider


class Qnn(Provider):
    name = "qnn"
    title = "ONNX Runtime, QNN"
    provider = "QNNExecutionProvider"
    install = "install onnxruntime-qnn instead of onnxruntime, on a Snapdragon with Windows or Linux"
