"""Step reuse: the UNet's deep part computed at some steps only.

From one step to the next the coarse features of a picture change little. The graph is cut where the last up block
begins: everything before it, except the first down block, is the deep part. The whole graph gets one more output, the
value at the cut. A second graph, a few nodes over the same file of weights, takes that value as an input and computes
the rest.

Source: DeepCache (Ma et al., arXiv 2312.00858); the cut at the last up block is its branch at the outermost level.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edge_sdk.errors import VerificationFailed
from edge_sdk.inference.bundle import DEEP, SHALLOW, Slot
from edge_sdk.inference.runtime import open_session
from export.graphs.errors import unexpected_graph
from export.graphs.saving import save_beside_weights

# Largest difference between both graphs: other kernels may be chosen for the same nodes.
_TOLERANCE = 1e-3
_UPSAMPLER = re.compile(r"unet\.up_blocks\.(\d+)\.upsamplers\.0\.conv(\.lora_add)?")


def split_unet(folder: Path, slots: Sequence[Slot]) -> list[str]:
    """Add the output `DEEP` to the UNet in `folder` (model.onnx), and write the shallow graph beside it.

    Args:
        folder: folder of the UNet's graph, in any precision.
        slots: the LoRA slots of the whole graph.

    Returns:
        The names of those slots that the shallow graph has too.

    Raises:
        ExportError: the graph has no place to cut.
    """
    path = folder / "model.onnx"
    whole, shallow = ir.load(path), ir.load(path)
    deep = _cut(whole.graph)
    deep.name = DEEP
    whole.graph.outputs.append(deep)
    _keep_what_follows(shallow)
    save_beside_weights(whole, path)
    save_beside_weights(shallow, folder / Path(SHALLOW).name)
    kept = {value.name for value in shallow.graph.inputs}
    return [slot.name for slot in slots if slot.input_a in kept]


def check_split(folder: Path, latents: tuple[int, int, int]) -> float:
    """Return the largest difference between the results of the whole graph and of the shallow one, relative.

    The shallow graph gets the deep part of the whole one.

    Args:
        folder: folder of the UNet's graphs.
        latents: (channels, height, width).

    Raises:
        VerificationFailed: the difference is more than rounding.
    """
    rng = np.random.default_rng(1)
    session = open_session(folder / "model.onnx")
    feed = {}
    for value in session.get_inputs():
        sizes = [size if isinstance(size, int) else 1 for size in value.shape]
        shape = (1, *latents) if value.name == "sample" else sizes
        feed[value.name] = rng.standard_normal(shape).astype(np.float32)
    wanted, deep = session.run(["out_sample", DEEP], feed)
    session = open_session(folder / Path(SHALLOW).name)
    names = {value.name for value in session.get_inputs()}
    found = session.run(["out_sample"], {name: value for name, value in feed.items() if name in names} | {DEEP: deep})
    error = float(np.abs(found[0] - wanted).max() / np.abs(wanted).max())
    if not error <= _TOLERANCE:
        raise VerificationFailed(
            f"The shallow part of the UNet differs from the whole by {error:.1e}, at most {_TOLERANCE:.0e} is allowed. "
            "Nothing was written: export without step reuse, or report the model."
        )
    return error


def _cut(graph: ir.Graph) -> ir.Value:
    """Return the input of the last up block: the result of the last upsampler before it."""
    # In the order of the graph: if the upsampler takes adapters, its result includes their product.
    found = {int(match[1]): node for node in graph if (match := _UPSAMPLER.fullmatch(node.name or ""))}
    if not found:
        raise unexpected_graph("the UNet has no upsampler to cut it at")
    return found[max(found)].outputs[0]


def _keep_what_follows(model: ir.Model) -> None:
    graph = model.graph
    deep = _cut(graph)
    given = ir.Value(name=DEEP, shape=deep.shape, type=deep.type)
    deep.replace_all_uses_with(given)
    graph.inputs.append(given)
    RemoveUnusedNodesPass()(model)
    for value in list(graph.inputs):
        if value.name and ".lora_" in value.name and not value.uses():
            graph.inputs.remove(value)
            graph.initializers.pop(value.name, None)
