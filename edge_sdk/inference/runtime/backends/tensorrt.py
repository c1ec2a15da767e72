"""NVIDIA graphics processors through TensorRT.

It builds an engine for every new combination of input sizes, which takes minutes, and the rank of an adapter is such a
size. That pays for a device that draws with the same adapters all day; `auto` never takes it.
"""

from __future__ import annotations

from edge_sdk.inference.runtime.backends.providers import Provider


class TensorRT(Provider):
    """ONNX Runtime's TensorRT execution provider."""

    name = "tensorrt"
    title = "ONNX Runtime, TensorRT"
    provider = "TensorrtExecutionProvider"
    install = "install onnxruntime-gpu instead of onnxruntime, and TensorRT (on a Jetson: see samples/jetson)"
