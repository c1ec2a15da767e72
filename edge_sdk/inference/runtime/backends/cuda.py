"""NVIDIA graphics processors through CUDA."""

from __future__ import annotations

from edge_sdk.inference.runtime.backends.providers import Provider


class Cuda(Provider):
    """ONNX Runtime's CUDA execution provider."""

    name = "cuda"
    title = "ONNX Runtime, CUDA"
    provider = "CUDAExecutionProvider"
    install = "install onnxruntime-gpu instead of onnxruntime (on a Jetson: see samples/jetson)"
