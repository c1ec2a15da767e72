"""Which layers of a UNet take LoRA factors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn

from edge_sdk.inference.bundle import Slot

# "attention": to_q, to_k, to_v and to_out.0 of every transformer block, which is what most adapters train and all that
# Impasto's own training does. "transformer": the block's feed-forward layers and the projections around it too.
SlotSet = Literal["attention", "transformer"]
SLOT_SETS: tuple[SlotSet, ...] = get_args(SlotSet)
_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


def slots_of(unet: nn.Module, which: SlotSet = "attention") -> list[Slot]:
    """The LoRA slots of a UNet, sorted by name. Layers that are no linear ones (proj_in of SD 1.x) are left out."""
    found = dict(_attention(unet))
    if which == "transformer":
        found |= dict(_around(unet))
    linear = {name: layer for name, layer in found.items() if isinstance(layer, nn.Linear)}
    return [
        Slot(name=f"unet.{name}", in_features=layer.in_features, out_features=layer.out_features)
        for name, layer in sorted(linear.items())
    ]


def _attention(unet: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for block, module in unet.named_modules():
        if isinstance(module, BasicTransformerBlock):
            for path, layer in module.named_modules():
                attention, _, projection = path.partition(".")
                if attention in ("attn1", "attn2") and projection in _ATTENTION:
                    yield f"{block}.{path}", layer


def _around(unet: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for path, module in unet.named_modules():
        if isinstance(module, Transformer2DModel):
            yield f"{path}.proj_in", module.proj_in
            yield f"{path}.proj_out", module.proj_out
        elif isinstance(module, BasicTransformerBlock):
            for inner, layer in module.ff.named_modules():
                yield f"{path}.ff.{inner}", layer
