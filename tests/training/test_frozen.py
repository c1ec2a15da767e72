"""Frozen layers compute what torch's do, and keep less for the gradients."""

from __future__ import annotations

import copy
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from edge_sdk.training.base_model.frozen import freeze

LAYERS = {
    "linear": (nn.Linear(6, 5), (3, 7, 6)),
    "without bias": (nn.Linear(6, 5, bias=False), (3, 6)),
    "convolution": (nn.Conv2d(4, 6, 3, padding=1), (2, 4, 8, 8)),
    "strided": (nn.Conv2d(4, 6, 3, stride=2, padding=1), (2, 4, 9, 9)),
    "grouped": (nn.Conv2d(4, 6, 1, groups=2), (2, 4, 5, 5)),
}


def frozen(layer: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A frozen copy of a layer, its weight rounded to `dtype`."""
    network = nn.Sequential(copy.deepcopy(layer))
    network[0].weight.data = network[0].weight.data.to(dtype)
    freeze(network)
    return network


def through(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """The result of a layer, and the gradient of its input."""
    x = x.clone().requires_grad_(True)
    result = layer(x)
    result.square().sum().backward()
    assert x.grad is not None
    return result.detach(), x.grad


@pytest.mark.parametrize("name", LAYERS)
def test_results_and_gradients_are_those_of_the_plain_layer(name: str) -> None:
    layer, shape = LAYERS[name]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    for ours, theirs in zip(through(frozen(layer), x), through(layer, x), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_weights_stored_in_bfloat16_are_computed_with_in_float32(name: str) -> None:
    layer, shape = LAYERS[name]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    rounded = copy.deepcopy(layer)
    rounded.weight.data = layer.weight.data.bfloat16().float()
    stored = frozen(layer, torch.bfloat16)
    assert stored[0].weight.dtype == torch.bfloat16
    for ours, theirs in zip(through(stored, x), through(rounded, x), strict=True):
        assert ours.dtype == torch.float32
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-6)


class Inputs(TorchDispatchMode):
    """Notes the storages of tensors that are made inside."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[weakref.ref[torch.UntypedStorage]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.made.append(weakref.ref(result.untyped_storage()))
        return result

    @property
    def alive(self) -> int:
        return sum(one() is not None for one in self.made)


def test_a_frozen_convolution_does_not_keep_its_input() -> None:
    layer, shape = LAYERS["convolution"]
    kept = []
    for convolution in (layer.requires_grad_(False), frozen(layer, torch.bfloat16)):
        x = torch.randn(shape, requires_grad=True)
        with Inputs() as inputs:
            result = convolution(x * 2)
        kept.append(inputs.alive)
        del result
    # The result and the product; the result alone: neither the product nor the widened weight.
    assert kept == [2, 1]


def test_factors_that_peft_makes_of_a_frozen_layers_class_take_gradients() -> None:
    layer = frozen(nn.Conv2d(4, 6, 3, padding=1))[0]
    factor = type(layer)(4, 2, 3, padding=1, bias=False)
    factor(torch.randn(1, 4, 5, 5)).sum().backward()
    assert factor.weight.grad is not None
