"""Drawing with ONNX Runtime: numpy, onnxruntime and tokenizers only, never torch.

bundle.py       the exported base model on disk, checked
base_id.py      the identity of a base model
tokenizer.py    prompt -> tokens
sessions.py     ONNX Runtime on a device
stages.py       the bundle's graphs, opened when they are needed
schedulers/     noise -> latents
mixing.py       adapters -> inputs of the UNet
generator.py    all of it: prompt -> pictures
"""

from __future__ import annotations

from edge_sdk.inference.base_id import compute_base_id
from edge_sdk.inference.bundle import Bundle, BundleIndex, Slot
from edge_sdk.inference.generator import Generator, OnStep
from edge_sdk.inference.mixing import Mix
from edge_sdk.inference.schedulers import SCHEDULERS
from edge_sdk.inference.tokenizer import PromptTruncated

__all__ = [
    "SCHEDULERS",
    "Bundle",
    "BundleIndex",
    "Generator",
    "Mix",
    "OnStep",
    "PromptTruncated",
    "Slot",
    "compute_base_id",
]
