"""Message of the error for a graph that the passes do not know."""

from __future__ import annotations

from edge_sdk.errors import ExportError


def unexpected_graph(what: str) -> ExportError:
    """Return the error for a graph of torch's exporter that the passes do not know."""
    return ExportError(
        f"torch wrote an ONNX graph that Impasto does not know: {what}. "
        "Use the torch and onnxscript versions of constraints.txt, or report the model."
    )
