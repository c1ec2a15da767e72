"""Frozen layers: the base model's linear layers and convolutions, which take no gradient.

Autograd would keep the input of every convolution for the gradient of its weight, which nobody asks for here. These
layers keep the weight alone. It may be stored in bfloat16 and computed with in float32, as on boards without bfloat16
arithmetic: it is then widened for the one product that needs it, forward and backward, and forgotten again, so that
what stays is the stored weight, a page of a mapped file.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_input


class FrozenLinear(nn.Linear):  # type: ignore[misc]  # torch is not type-checked
    """A linear layer whose weight and bias are constants, unless they take gradients."""

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.requires_grad:  # peft makes the factors of the class of the layer that they are for
            return super().forward(x)
        return _Linear.apply(x, self.weight, self.bias)


class FrozenConv2d(nn.Conv2d):  # type: ignore[misc]
    """A convolution whose weight and bias are constants, unless they take gradients."""

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.requires_grad:
            return super().forward(x)
        return _Conv2d.apply(x, self.weight, self.bias, (self.stride, self.padding, self.dilation, self.groups))


def freeze(network: nn.Module) -> None:
    """Turn the linear layers and convolutions of a network into frozen ones, and let no parameter take gradients."""
    network.requires_grad_(False)
    for module in network.modules():
        if type(module) is nn.Linear:
            module.__class__ = FrozenLinear
        elif type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str):
            module.__class__ = FrozenConv2d


class _Linear(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return functional.linear(x, _as_wide_as(x, weight), bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        return grad @ weight.to(grad.dtype), None, None


class _Conv2d(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: tuple[Any, ...]) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.geometry, ctx.shape = geometry, x.shape
        return functional.conv2d(x, _as_wide_as(x, weight), bias, *geometry)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        # Only the input's shape counts for its gradient.
        return conv2d_input(ctx.shape, weight.to(grad.dtype), grad, *ctx.geometry), None, None, None


def _as_wide_as(x: Tensor, weight: Tensor) -> Tensor:
    """The weight in the precision of x; under autocast torch chooses the precision."""
    return weight if torch.is_autocast_enabled("cpu") else weight.to(x.dtype)
