"""The graphs of a bundle while it draws: each is a stage, opened when it is first needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from edge_sdk.inference.bundle import Bundle
from edge_sdk.inference.sessions import open_session

Array: TypeAlias = npt.NDArray[Any]


class Stages:
    """Runs the graphs of a bundle by name ("text_encoder", "unet", "vae_decoder", ...)."""

    def __init__(self, bundle: Bundle, *, threads: int | None = None) -> None:
        self._bundle = bundle
        self._threads = threads
        self._sessions: dict[str, ort.InferenceSession] = {}

    def run(self, stage: str, outputs: Sequence[str], feed: Mapping[str, Array]) -> list[npt.NDArray[np.float32]]:
        """What a stage computes, in the order of `outputs`.

        Raises:
            BundleCorrupt: its graph cannot be opened.
        """
        if stage not in self._sessions:
            self._sessions[stage] = open_session(self._bundle.path(f"{stage}/model.onnx"), self._threads)
        results: list[npt.NDArray[np.float32]] = self._sessions[stage].run(list(outputs), dict(feed))
        return results
