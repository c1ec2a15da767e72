"""Sets of a UNet's layers, by their names in diffusers: layers that are trained, and layers with slots in a bundle."""

from __future__ import annotations

import re
from typing import Literal, get_args

# "attention": to_q, to_k, to_v and to_out.0 of every attention, which is what most adapters train.
# "transformer": the blocks' feed-forward layers and the projections around them too, which are 1x1 convolutions in
# SD 1.x. "all": every linear layer and every convolution, as LoCon files and LCM-LoRAs have them.
LayerSet = Literal["attention", "transformer", "all"]
LAYER_SETS: tuple[LayerSet, ...] = get_args(LayerSet)

_ATTENTION = r"\.(to_[qkv]|to_out\.0)$"
_AROUND = r"\.attentions\.\d+\.(proj_in|proj_out|transformer_blocks\.\d+\.ff\..+)$"
_NAMES: dict[LayerSet, re.Pattern[str]] = {
    "attention": re.compile(_ATTENTION),
    "transformer": re.compile(f"{_ATTENTION}|{_AROUND}"),
    "all": re.compile(""),
}


def in_layer_set(name: str, which: LayerSet) -> bool:
    """True if the linear layer or convolution of this name ("unet.down_blocks. ...") belongs to the set."""
    return _NAMES[which].search(name) is not None
