"""Export of a diffusers pipeline to a bundle that devices draw with, verified against torch.

pipeline.py   a folder or hub id -> a checked StableDiffusionPipeline
image_encoder.py          an image encoder for picture codes, and its preprocessing
parts.py      its networks as plain torch modules with named inputs and outputs
passes.py     changes of their ONNX graphs: attention kernels, clean metadata
slots.py, lora.py         layers that take LoRA factors; their inputs in the graph
verify.py     the written graphs against torch, without and with an adapter
layers.py, saving.py      names of layers in a graph; writing graphs
fusing.py, words.py       LoRA files into the weights; tokenizers into the bundle
precision.py              a bundle in float16 or int8: half.py, quantization.py, calibration.py
basis.py      the public basis of prompt codes, of public_captions.py
reuse.py      the UNet's shallow part, for step reuse
errors.py, lines.py       messages of errors that several modules share; text files with a text a line
bundle.py     the whole export, in order, into one folder
cli.py        `impasto-export MODEL OUT`

Names are imported on first use, so that `impasto-export --help` need not wait for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import edge_sdk  # noqa: F401  # switches the telemetry of dependencies off before one is loaded

if TYPE_CHECKING:
    from export.bundle import Exported, export_model

__all__ = ["Exported", "export_model"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'export' has no attribute {name!r}")
    from export import bundle

    return getattr(bundle, name)
