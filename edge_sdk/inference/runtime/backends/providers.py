"""Back ends that are execution providers of ONNX Runtime.

`onnxruntime.get_available_providers()` lists what the library was compiled with, not what works here; and ONNX Runtime
replaces a provider that does not start by the CPU, without an error. Both are checked here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import onnxruntime as ort

from edge_sdk.errors import BackendUnavailable, BundleCorrupt
from edge_sdk.inference.bundle import Graph
from edge_sdk.inference.runtime.backends.base import Backend, Session, Settings, reading
from edge_sdk.inference.runtime.sessions import Opened, session_options


class Provider(Backend):
    """An execution provider. ONNX Runtime runs operations that it lacks on the CPU, except under `strict`.

    install: the advice on what to install for it.
    """

    provider: ClassVar[str]
    install: ClassVar[str]
    options: ClassVar[Mapping[str, str]] = {}

    def missing(self) -> str | None:
        if self.provider in ort.get_available_providers():
            return None
        return f"onnxruntime {ort.__version__} was built without {self.provider}: {self.install}."

    def open(self, graph: Graph, settings: Settings) -> Session:
        if reason := self.missing():
            raise BackendUnavailable(reason)
        options = session_options(settings.threads)
        if settings.strict:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            # ONNX Runtime's own warning is dropped: the verdict says the same.
            options.log_severity_level = 4
        chosen = [(self.provider, dict(self.options))]
        if not settings.strict:
            chosen.append(("CPUExecutionProvider", {}))
        try:
            session = ort.InferenceSession(str(graph.path), options, providers=chosen)
        # onnxruntime's exceptions derive from Exception itself, one class for each status code.
        except Exception as error:
            if "fallback to CPU EP has been explicitly disabled" in str(error):
                raise BackendUnavailable(f"{self.provider} is there, but leaves the work to the CPU.") from error
            raise BundleCorrupt(f"{self.provider} cannot load {graph.path}: {error}") from error
        if session.get_providers()[0] != self.provider:
            raise BackendUnavailable(
                f"{self.provider} did not start, and ONNX Runtime would go on with {session.get_providers()[0]}: "
                f"{self.install}."
            )
        return Opened(session)

    def resident_bytes(self, graph: Graph, settings: Settings) -> int:
        # Weights count in full, as graphics and processor may share memory. This was not measured.
        return int(1.1 * graph.size)

    def opening_bytes(self, graph: Graph, settings: Settings) -> int:
        return reading(graph)
