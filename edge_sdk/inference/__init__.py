"""Drawing with ONNX Runtime: numpy, onnxruntime and tokenizers only, never torch.

bundle.py       the exported base model on disk, checked
base_id.py      the identity of a base model
base_model.py   the configurations of its diffusers folder
tokenizer.py    prompt -> tokens
hardware.py     the processor, and how much of the machine the process may use
sessions.py     ONNX Runtime on the CPU
graph.py        a graph on disk
onnx_file.py    just enough of the ONNX format
prepare.py      graphs laid out for this processor, on disk
backends/       what graphs are run with, and which of them works here
memory.py       how much memory drawing takes
stages.py       the bundle's graphs, opened when they are needed, closed when memory is short
schedulers/     noise -> latents
mixing.py       adapters -> inputs of the UNet
hybrids/        how several adapters draw together
denoiser.py     the UNet as a function of latents and timestep
generator.py    all of it: prompt -> pictures
"""

from __future__ import annotations

from edge_sdk.inference.backends import BACKENDS
from edge_sdk.inference.base_id import compute_base_id
from edge_sdk.inference.bundle import Bundle, BundleIndex, Slot
from edge_sdk.inference.generator import Generator, OnStep
from edge_sdk.inference.hybrids import HYBRIDS
from edge_sdk.inference.mixing import Mix
from edge_sdk.inference.prepare import NotPrepared
from edge_sdk.inference.schedulers import SCHEDULERS
from edge_sdk.inference.tokenizer import PromptTruncated

__all__ = [
    "BACKENDS",
    "HYBRIDS",
    "SCHEDULERS",
    "Bundle",
    "BundleIndex",
    "Generator",
    "Mix",
    "NotPrepared",
    "OnStep",
    "PromptTruncated",
    "Slot",
    "compute_base_id",
]
