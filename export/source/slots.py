"""Selection of the UNet layers that take LoRA factors."""

from __future__ import annotations

from torch import nn

from edge_sdk.adapter import LayerSet, in_layer_set
from edge_sdk.inference.bundle import Slot


def slots_of(unet: nn.Module, which: LayerSet = "attention") -> list[Slot]:
    """Return the LoRA slots of a UNet, sorted by name."""
    layers = {f"unet.{name}": layer for name, layer in sorted(unet.named_modules())}
    found = (_slot(name, layer) for name, layer in layers.items() if in_layer_set(name, which))
    return [slot for slot in found if slot is not None]


def _slot(name: str, layer: nn.Module) -> Slot | None:
    if isinstance(layer, nn.Linear):
        return Slot(name=name, in_features=layer.in_features, out_features=layer.out_features)
    if isinstance(layer, nn.Conv2d) and layer.groups == 1:
        height, width = layer.kernel_size
        in_features = layer.in_channels * height * width
        return Slot(name=name, in_features=in_features, out_features=layer.out_channels, kernel=(height, width))
    return None
