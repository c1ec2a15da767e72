"""Changes of ONNX graphs after torch has written them, and their files. Needs no torch.

attention.py   attention kernels
lora.py        LoRA slots: inputs for the factors of adapters
metadata.py    names of layers, from the exporter's metadata, which is then removed
reuse.py       the UNet's shallow part, for step reuse
saving.py      writing of graphs, with their weights inside or beside
errors.py      the error for a graph that is not known
"""

from __future__ import annotations

from export.graphs.attention import fuse_attention
from export.graphs.lora import add_lora_slots, is_lora
from export.graphs.metadata import PRODUCTS, clean, name_layers
from export.graphs.reuse import check_split, split_unet
from export.graphs.saving import WEIGHTS, replace_graph, save_graph

__all__ = [
    "PRODUCTS",
    "WEIGHTS",
    "add_lora_slots",
    "check_split",
    "clean",
    "fuse_attention",
    "is_lora",
    "name_layers",
    "replace_graph",
    "save_graph",
    "split_unet",
]
