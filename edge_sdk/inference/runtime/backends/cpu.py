"""Every processor, through ONNX Runtime: the back end that is always there, and the reference for all others."""

from __future__ import annotations

import warnings

from edge_sdk.errors import BundleCorrupt, DeviceBusy
from edge_sdk.inference.bundle import Graph
from edge_sdk.inference.runtime import prepare
from edge_sdk.inference.runtime.backends.base import Backend, Session, Settings, reading
from edge_sdk.inference.runtime.sessions import Opened, lean_options, load, open_session


class Cpu(Backend):
    """ONNX Runtime's CPU execution provider, with prepared weights where there is a cache."""

    name = "cpu"
    title = "ONNX Runtime, CPU"

    def missing(self) -> str | None:
        return None

    def open(self, graph: Graph, settings: Settings) -> Session:
        if settings.lean:
            return Opened(load(graph.path, lean_options(settings.threads)), frugal=settings.frugal)
        if settings.cache is not None and prepare.pays(graph):
            try:
                path = prepare.ready(graph, settings.cache)
                return Opened(open_session(path, settings.threads), frugal=settings.frugal)
            except (OSError, BundleCorrupt, DeviceBusy) as error:
                # If the bundle itself is damaged, opening it unprepared will say so.
                warnings.warn(prepare.NotPrepared(graph.path, error), stacklevel=2)
        return Opened(open_session(graph.path, settings.threads), frugal=settings.frugal)

    def resident_bytes(self, graph: Graph, settings: Settings) -> int:
        if self._maps_weights(graph, settings):
            # Mapped weights do not count: the system can drop them.
            return int(0.03 * graph.size)
        return int(1.1 * graph.size)

    def opening_bytes(self, graph: Graph, settings: Settings) -> int:
        if settings.lean or (settings.cache and prepare.pays(graph) and prepare.find(graph, settings.cache)):
            return self.resident_bytes(graph, settings)
        return reading(graph)

    def can_be_lean(self, graph: Graph) -> bool:
        return graph.maps

    def _maps_weights(self, graph: Graph, settings: Settings) -> bool:
        return settings.lean or (settings.cache is not None and prepare.possible(graph, settings.cache))
