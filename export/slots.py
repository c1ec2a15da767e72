"""Selection of the UNet layers that take LoRA factors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, get_args

from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn

from edge_sdk.inference.bundle import Slot

# "attention": to_q, to_k, to_v and to_out.0 of every transformer block, which is what most adapters train and all that
# Impasto's own training does. "transformer": the block's feed-forward layers and the projections around it too, which
# are 1x1 convolutions in SD 1.x. "all": every linear layer and every convolution, which LoCon files and LCM-LoRAs have.
SlotSet = Literal["attention", "transformer", "all"]
SLOT_SETS: tuple[SlotSet, ...] = get_args(SlotSet)
_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


def slots_of(unet: nn.Module, which: SlotSet = "attention") -> list[Slot]:
    """Return the LoRA slots of a UNet, sorted by name."""
    return [slot for name, layer in sorted(_SETS[which](unet)) if (slot := _slot(f"unet.{name}", layer)) is not None]


def _slot(name: str, layer: nn.Module) -> Slot | None:
    if isinstance(layer, nn.Linear):
        return Slot(name=name, in_features=layer.in_features, out_features=layer.out_features)
    if isinstance(layer, nn.Conv2d) and layer.groups == 1:
        height, width = layer.kernel_size
        in_features = layer.in_channels * height * width
        return Slot(name=name, in_features=in_features, out_features=layer.out_channels, kernel=(height, width))
    return None


def _attention(unet: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for block, module in unet.named_modules():
        if isinstance(module, BasicTransformerBlock):
            for path, layer in module.named_modules():
                attention, _, projection = path.partition(".")
                if attention in ("attn1", "attn2") and projection in _ATTENTION:
                    yield f"{block}.{path}", layer


def _transformer(unet: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    yield from _attention(unet)
    for path, module in unet.named_modules():
        if isinstance(module, Transformer2DModel):
            yield f"{path}.proj_in", module.proj_in
            yield f"{path}.proj_out", module.proj_out
        elif isinstance(module, BasicTransformerBlock):
            for inner, layer in module.ff.named_modules():
                yield f"{path}.ff.{inner}", layer


_SETS: dict[SlotSet, Callable[[nn.Module], Iterable[tuple[str, nn.Module]]]] = {
    "attention": _attention,
    "transformer": _transformer,
    "all": lambda unet: unet.named_modules(),
}
