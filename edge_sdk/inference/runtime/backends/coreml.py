"""Apple's graphics processor and neural engine through Core ML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from edge_sdk.inference.runtime.backends.providers import Provider


class CoreML(Provider):
    """ONNX Runtime's Core ML execution provider, on macOS."""

    name = "coreml"
    title = "ONNX Runtime, Core ML"
    provider = "CoreMLExecutionProvider"
    install = "it is part of onnxruntime on macOS, and exists nowhere else"
    # The older of Core ML's two formats has no batched matrix products.
    options: ClassVar[Mapping[str, str]] = {"ModelFormat": "MLProgram"}
