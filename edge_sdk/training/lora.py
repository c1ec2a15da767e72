"""LoRA in the UNet: its layers, its initial factors, the frozen adapters under it, and the trained adapter.

The attention projections are trained. Frozen adapters may lie on every linear layer and convolution, as those of shared
files do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from numpy.typing import NDArray
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from edge_sdk.adapter import TRAINED, Adapter, Factors, Shape, Share, beginning, check, concatenate
from edge_sdk.errors import AdapterMismatch

_PREFIX = "unet."


def target_layers(unet: UNet2DConditionModel) -> dict[str, nn.Linear]:
    """Map of layer name (with "unet." in front) -> linear layer for those that are trained, in the model's order."""
    return {
        f"{_PREFIX}{name}": module
        for name, module in unet.named_modules()
        if isinstance(module, nn.Linear) and name.endswith(TRAINED)
    }


class Slots:
    """The layers of one UNet on which adapters can be laid, and those in which they can be trained.

    `shapes`: layer name -> shape of the layers that are trained.

    Every adapter is checked against the slots and the base id before anything changes.
    """

    def __init__(self, unet: UNet2DConditionModel, base_id: str) -> None:
        self.base_id = base_id
        self._unet = unet
        self._layers = _all_layers(unet)
        self._shapes = {name: _shape(layer) for name, layer in self._layers.items()}
        self.shapes = {name: self._shapes[name] for name in target_layers(unet)}

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
    def trained(self, start: Adapter | None, rank: int, seed: int, share: Share = Share.BOTH) -> Iterator[Trained]:
        """Put LoRA factors into every slot inside, and remove them afterwards. Those that `share` names take gradients.

        Raises:
            AdapterMismatch, AdapterValueError: `start` does not fit this base model, has layers that are not trained,
                or is missing although a core is trained.
        """
        if start is not None:
            check(start, self._shapes, self.base_id)
            if untrained := [name for name in start.layers if name not in self.shapes]:
                raise AdapterMismatch(
                    f"Layer {untrained[0]} of the adapter to start from is none that a device trains, which are the "
                    "attention projections: lay the adapter under the training as a frozen one instead."
                )
        factors = dict(beginning(start, self.shapes, rank, seed, share).layers)
        ranks = {name.removeprefix(_PREFIX): f.rank for name, f in factors.items()}
        self._unet.add_adapter(
            LoraConfig(
                r=rank,
                lora_alpha=rank,
                target_modules=list(ranks),
                rank_pattern=ranks,
                alpha_pattern=ranks,
                init_lora_weights=False,
            )
        )
        try:
            yield Trained(self._unet, factors, self.base_id, share)
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
        self._layers: dict[str, tuple[nn.Linear, nn.Linear]] = {}
        # A list, as training a core adds modules meanwhile.
        for name, module in list(unet.named_modules()):
            if isinstance(module, LoraLayer):
                layer = f"{_PREFIX}{name}"
                down, up = module.lora_A["default"], module.lora_B["default"]
                # peft gives new factors the dtype of the base weight, which may be bfloat16.
                down.weight.data = torch.from_numpy(factors[layer].a.copy())
                up.weight.data = torch.from_numpy(factors[layer].b.copy())
                self._layers[layer] = (down, up)
                self._take(layer, down, up, share)

    def adapter(self) -> Adapter:
        """The current factors, copied. peft's scale is 1 (alpha = rank)."""
        return Adapter(
            {name: Factors(_value(down), _value(up)) for name, (down, up) in self._layers.items()}, self._base_id
        )

    def _take(self, layer: str, down: nn.Linear, up: nn.Linear, share: Share) -> None:
        """Let the trained parts of a layer, and only those, take gradients."""
        if share is Share.CORE:
            # B = Q_B K: the frame is a constant of the layer, and K its only parameter.
            frame = _Frame(torch.linalg.qr(up.weight.data.double()).Q.float())
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
    """A factor B (out, r), as the product of a constant orthonormal frame (out, r) and a trained core (r, r)."""

    def __init__(self, frame: Tensor) -> None:
        super().__init__()
        self.register_buffer("frame", frame)

    def forward(self, core: Tensor) -> Tensor:
        return self.frame @ core

    def right_inverse(self, b: Tensor) -> Tensor:
        return self.frame.T @ b


def _value(layer: nn.Linear) -> NDArray[np.float32]:
    value: NDArray[np.float32] = layer.weight.detach().numpy().copy()
    return value


def _all_layers(unet: UNet2DConditionModel) -> dict[str, nn.Linear | nn.Conv2d]:
    return {
        f"{_PREFIX}{name}": module
        for name, module in unet.named_modules()
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
    }


def _shape(layer: nn.Linear | nn.Conv2d) -> Shape:
    out_features, *rest = layer.weight.shape
    kernel = (int(rest[1]), int(rest[2])) if len(rest) == 3 else None
    return Shape(int(np.prod(rest)), int(out_features), kernel)


def _side_branch(
    layer: nn.Linear | nn.Conv2d, factors: Factors
) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
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
