"""A base model as it is read: a diffusers folder to checked networks in torch.

pipeline.py        a folder or hub id -> a checked StableDiffusionPipeline
image_encoder.py   an image encoder for picture codes, and its preprocessing
fusing.py          LoRA files added to the weights
slots.py           the layers that take adapters
parts.py           the networks as plain torch modules with named inputs and outputs, and torch's graphs of them
tokenizers.py      the tokenizers, which must split prompts as devices do
"""

from __future__ import annotations

from export.source.fusing import FusedLora, fuse_lora
from export.source.image_encoder import LoadedEncoder, choose_image_encoder, load_image_encoder, own_image_encoder
from export.source.parts import (
    Part,
    condition_outputs,
    image_size,
    parts_of,
    to_onnx,
    unet_step,
    vae_scale_factor,
)
from export.source.pipeline import defaults_of, find_model, kind_of, load_pipeline, load_preview
from export.source.slots import slots_of
from export.source.tokenizers import write_tokenizer

__all__ = [
    "FusedLora",
    "LoadedEncoder",
    "Part",
    "choose_image_encoder",
    "condition_outputs",
    "defaults_of",
    "find_model",
    "fuse_lora",
    "image_size",
    "kind_of",
    "load_image_encoder",
    "load_pipeline",
    "load_preview",
    "own_image_encoder",
    "parts_of",
    "slots_of",
    "to_onnx",
    "unet_step",
    "vae_scale_factor",
    "write_tokenizer",
]
