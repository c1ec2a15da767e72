"""Fusing: LoRA files added to the exported weights, read like all adapters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edge_sdk import adapter as adapters
from edge_sdk.adapter import Adapter, Factors
from edge_sdk.errors import AdapterError, ExportError
from edge_sdk.inference.bundle import Fused, sha256_of

# Networks that both adapters and the pipeline name.
_NETWORKS = ("unet", "text_encoder", "text_encoder_2")


@dataclass(frozen=True)
class FusedLora:
    """A LoRA file to add to the exported weights.

    Attributes:
        path: the file.
        weight: factor of its change.
    """

    path: Path
    weight: float = 1.0


def fuse_lora(pipeline: Any, lora: FusedLora, base_id: str) -> Fused:
    """Add weight * B A of every layer of a LoRA file to the weights of a pipeline, text encoders included.

    Returns:
        The fused file, with the number of its layers.

    Raises:
        ExportError: the file is no LoRA, or one of its layers has no place in the pipeline; nothing was changed.
    """
    if not math.isfinite(lora.weight):
        raise ExportError(f"The weight of {lora.path} must be a finite number, not {lora.weight}.")
    if not lora.path.is_file():
        raise ExportError(f"There is no file {lora.path} to fuse into the base model.")
    try:
        adapter = adapters.load(lora.path)
    except AdapterError as error:
        raise ExportError(f"The LoRA file cannot be fused into the base model. {error}") from error
    if adapter.base_id not in (None, base_id):
        raise ExportError(
            f"{lora.path} belongs to base model {str(adapter.base_id)[:12]}…, this one is {base_id[:12]}…: fuse a LoRA "
            "that was trained on it."
        )
    pairs = [(_place(pipeline, name, factors), factors) for name, factors in adapter.layers.items()]
    _check(adapter, [layer for layer, _ in pairs], lora.path)
    for layer, factors in pairs:
        delta = torch.from_numpy(factors.b) @ torch.from_numpy(factors.a)
        layer.weight.data += lora.weight * delta.reshape(layer.weight.shape).to(layer.weight.dtype)
    return Fused(name=lora.path.name, sha256=sha256_of(lora.path), weight=lora.weight, layers=len(pairs))


def _check(adapter: Adapter, places: Sequence[nn.Module | None], path: Path) -> None:
    lost = [name for name, place in zip(adapter.layers, places, strict=True) if place is None]
    if not lost:
        return
    what = "None" if len(lost) == len(places) else f"Only {len(places) - len(lost)}"
    factors = adapter.layers[lost[0]]
    raise ExportError(
        f"{path} does not fit this base model. {what} of its {len(places)} layers can be fused: there is no "
        f"{lost[0]} of {factors.shape} in it. Fuse a LoRA that was trained on this base model or one of its shape."
    )


def _place(pipeline: Any, name: str, factors: Factors) -> Any:
    """Return the layer that factors change; None if there is none, or one of another shape."""
    component, _, path = name.partition(".")
    network = getattr(pipeline, component, None) if component in _NETWORKS else None
    # transformers 5.6 dropped "text_model." from its module paths.
    for spelling in (path, path.removeprefix("text_model.")):
        try:
            layer = network.get_submodule(spelling) if network is not None else None
        except AttributeError:
            continue
        if isinstance(layer, nn.Linear):
            return layer if factors.shape.fits(adapters.Shape(layer.in_features, layer.out_features)) else None
        if isinstance(layer, nn.Conv2d) and layer.groups == 1:
            channels, height, width = layer.weight.shape[1:]
            shape = adapters.Shape(channels * height * width, layer.out_channels, (height, width))
            return layer if factors.shape.fits(shape) else None
    return None
