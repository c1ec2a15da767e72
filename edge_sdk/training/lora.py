"""LoRA in the UNet: its layers, its initial factors, the frozen adapters under it, and the trained adapter.

Every linear layer and convolution can be trained, and can lie under a frozen adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeAlias

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from numpy.typing import NDArray
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from edge_sdk.adapter import (
    Adapter,
    Factors,
    Kernel,
    LayerSet,
    Shape,
    Share,
    beginning,
    check,
    concatenate,
    in_layer_set,
)
from edge_sdk.errors import AdapterMismatch
from edge_sdk.training.threads import MAKING_MODULES

_PREFIX = "unet."
_Layer: TypeAlias = nn.Linear | nn.Conv2d


def module_names(layers: Iterable[str]) -> list[str]:
    """Names of layers ("unet. ...") as the UNet's own modules have them."""
    return [name.removeprefix(_PREFIX) for name in layers]


class Slots:
    """The layers of one UNet on which adapters can be laid, and in which they can be trained.

    Every adapter is checked against the slots and the base id before anything changes.
    """

    def __init__(self, unet: UNet2DConditionModel, base_id: str) -> None:
        self.base_id = base_id
        self._unet = unet
        self._layers = _all_layers(unet)
        self._shapes = {name: _shape(layer) for name, layer in self._layers.items()}

    def shapes(self, layers: LayerSet) -> dict[str, Shape]:
        """Layer name ("unet. ...") -> shape of the layers of a set, in the model's order."""
        return {name: shape for name, shape in self._shapes.items() if in_layer_set(name, layers)}

    @contextmanager
    def laid_on(self, adapters: Sequence[tuple[Adapter, float]]) -> Iterator[None]:
        """Add sum of weight * (x A^T) B^T to every layer's result inside; convolutions do so at every place.

        This is a side branch, although W + B A would cost nothing per step: bfloat16 weights are too coarse for the
        changes of an adapter (of the product of rank-8 factors, 7 to 30 % is lost).

        Raises:
            AdapterMismatch, AdapterValueError: an adapter does not fit this base model.
        """
        for adapter, _ in adapters:
            check(adapter, self._shapes, self.base_id)
        terms = [(adapter, weight) for adapter, weight in adapters if weight]
        with ExitStack() as hooks:
            for name, factors in concatenate(terms).layers.items() if terms else ():
                layer = self._layers[name]
                hooks.callback(layer.register_forward_hook(_side_branch(layer, factors)).remove)
            yield

    @contextmanager
    def trained(
        self,
        start: Adapter | None,
        rank: int,
        seed: int,
        share: Share = Share.BOTH,
        layers: LayerSet = "attention",
    ) -> Iterator[Trained]:
        """Put LoRA factors into every layer of the set inside, and remove them afterwards. Those that `share` names
        take gradients.

        Raises:
            AdapterMismatch, AdapterValueError: `start` does not fit this base model, has layers that are not trained,
                or is missing although a core is trained.
        """
        shapes = self.shapes(layers)
        if start is not None:
            check(start, self._shapes, self.base_id)
            if untrained := [name for name in start.layers if name not in shapes]:
                raise AdapterMismatch(
                    f"Layer {untrained[0]} of the adapter to start from is not trained with layers={layers!r}: choose "
                    "a larger set of layers, or lay the adapter under the training as a frozen one."
                )
        factors = dict(beginning(start, shapes, rank, seed, share).layers)
        ranks = dict(zip(module_names(factors), (f.rank for f in factors.values()), strict=True))
        config = LoraConfig(
            r=rank,
            lora_alpha=rank,
            target_modules=list(ranks),
            rank_pattern=ranks,
            alpha_pattern=ranks,
            init_lora_weights=False,
        )
        try:
            with MAKING_MODULES:
                self._unet.add_adapter(config)
                trained = Trained(self._unet, factors, self.base_id, share)
            yield trained
        finally:
            self._unet.unload_lora()


class Trained:
    """The LoRA factors inside the UNet while they are trained.

    `parameters`: the factors that take gradients, float32, named like the keys of their file.
    """

    def __init__(
        self, unet: UNet2DConditionModel, factors: dict[str, Factors], base_id: str, share: Share = Share.BOTH
    ) -> None:
        self._base_id = base_id
        self.parameters: dict[str, nn.Parameter] = {}
        self._layers: dict[str, tuple[_Layer, _Layer]] = {}
        # A list, as training a core adds modules meanwhile.
        for name, module in list(unet.named_modules()):
            if isinstance(module, LoraLayer):
                layer = f"{_PREFIX}{name}"
                down, up = module.lora_A["default"], module.lora_B["default"]
                # peft gives new factors the dtype of the base weight, which may be bfloat16.
                down.weight.data = torch.from_numpy(factors[layer].a.copy()).view_as(down.weight)
                up.weight.data = torch.from_numpy(factors[layer].b.copy()).view_as(up.weight)
                self._layers[layer] = (down, up)
                self._take(layer, down, up, share)

    def adapter(self) -> Adapter:
        """The current factors, copied. peft's scale is 1 (alpha = rank)."""
        return Adapter(
            {name: Factors(_value(down), _value(up), _kernel(down)) for name, (down, up) in self._layers.items()},
            self._base_id,
        )

    def _take(self, layer: str, down: _Layer, up: _Layer, share: Share) -> None:
        """Let the trained parts of a layer, and only those, take gradients."""
        if share is Share.CORE:
            # B = Q_B K: the frame is a constant of the layer, and K its only parameter.
            frame = _Frame(torch.linalg.qr(up.weight.data.flatten(1).double()).Q.float(), up.weight.shape)
            parametrize.register_parametrization(up, "weight", frame)
            down.weight.requires_grad_(False)
            self.parameters[f"{layer}.lora_core.weight"] = up.parametrizations.weight.original
            return
        down.weight.requires_grad_(share is not Share.B)
        up.weight.requires_grad_(share is not Share.A)
        for letter, part in (("A", down), ("B", up)):
            if part.weight.requires_grad:
                self.parameters[f"{layer}.lora_{letter}.weight"] = part.weight


class _Frame(nn.Module):  # type: ignore[misc]  # torch is not type-checked
    """A factor B (out, r), as the product of a constant orthonormal frame (out, r) and a trained core (r, r).

    shape: that of the weight, which for a convolution ends in its kernel of 1x1.
    """

    def __init__(self, frame: Tensor, shape: torch.Size) -> None:
        super().__init__()
        self.register_buffer("frame", frame)
        self._shape = shape

    def forward(self, core: Tensor) -> Tensor:
        return (self.frame @ core).view(self._shape)

    def right_inverse(self, b: Tensor) -> Tensor:
        return self.frame.T @ b.flatten(1)


def _value(layer: _Layer) -> NDArray[np.float32]:
    value: NDArray[np.float32] = layer.weight.detach().flatten(1).numpy().copy()
    return value


def _kernel(layer: _Layer) -> Kernel | None:
    return (layer.kernel_size[0], layer.kernel_size[1]) if isinstance(layer, nn.Conv2d) else None


def _all_layers(unet: UNet2DConditionModel) -> dict[str, _Layer]:
    return {
        f"{_PREFIX}{name}": module
        for name, module in unet.named_modules()
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
    }


def _shape(layer: _Layer) -> Shape:
    out_features, *rest = layer.weight.shape
    kernel = (int(rest[1]), int(rest[2])) if len(rest) == 3 else None
    return Shape(int(np.prod(rest)), int(out_features), kernel)


def _side_branch(layer: _Layer, factors: Factors) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
    """A forward hook that adds the product of the factors to the layer's result."""
    a, b = (torch.from_numpy(matrix.astype(np.float32)) for matrix in (factors.a, factors.b))

    def add(_: nn.Module, inputs: tuple[Tensor], result: Tensor) -> Tensor:
        return result + functional.linear(functional.linear(inputs[0], a), b)

    if isinstance(layer, nn.Linear):
        return add
    kernel, one_by_one = a.view(factors.rank, layer.in_channels, *layer.kernel_size), b[:, :, None, None]

    def add_convolved(_: nn.Module, inputs: tuple[Tensor], result: Tensor) -> Tensor:
        down = functional.conv2d(inputs[0], kernel, None, layer.stride, layer.padding, layer.dilation)
        return result + functional.conv2d(down, one_by_one)

    return add_convolved
