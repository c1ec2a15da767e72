"""Every processor, through ONNX Runtime: the back end that is always there and that all others are compared with."""

from __future__ import annotations

import warnings

from edge_sdk.errors import BundleCorrupt
from edge_sdk.inference import prepare
from edge_sdk.inference.backends.base import Backend, Session, Settings
from edge_sdk.inference.graph import Graph
from edge_sdk.inference.sessions import Opened, open_session


class Cpu(Backend):
    name = "cpu"
    title = "ONNX Runtime, CPU"

    def missing(self) -> str | None:
        return None

    def open(self, graph: Graph, settings: Settings) -> Session:
        if settings.cache is not None and prepare.pays(graph):
            try:
                path = prepare.ready(graph, settings.cache)
                return Opened(open_session(path, settings.threads))
            except (OSError, BundleCorrupt) as error:
                # If it is the bundle that is damaged, opening it as it is will say so.
                warnings.warn(prepare.NotPrepared(graph.path, error), stacklevel=2)
        return Opened(open_session(graph.path, settings.threads))

    def resident(self, graph: Graph, settings: Settings) -> int:
        if settings.cache is not None and prepare.possible(graph, settings.cache):
            # Mapped weights are the system's to drop. What is left was measured (docs/devices.md).
            return int(prepare.IDLE * graph.size)
        return super().resident(graph, settings)

    def opening(self, graph: Graph, settings: Settings) -> int:
        if settings.cache is not None and prepare.pays(graph) and prepare.find(graph, settings.cache) is None:
            # As long as it is being prepared it is in memory, and once more if it comes out of model.onnx itself.
            return int((1.5 if len(graph.files) > 1 else 2.1) * graph.size)
        return self.resident(graph, settings)
