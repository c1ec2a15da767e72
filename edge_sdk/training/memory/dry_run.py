"""Dry runs: the memory that a step takes, found by running it on tensors without content.

Tensors on torch's device "meta" have a shape, a type and a lifetime, and nothing else. The step runs as it will run
(the same UNet, LoRA factors, checkpointing), and the storages alive after each operation are counted. Work space inside
the kernels is not seen.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only
from torch.utils.weak import WeakIdKeyDictionary

from edge_sdk.adapter import LayerSet
from edge_sdk.training.base_model import Storage, computed_again, empty_unet, freeze, laid_out, stored_size, viewed
from edge_sdk.training.lora import Slots, module_names
from edge_sdk.training.precision import TrainingPrecision, fast_kernels, short_sequence
from edge_sdk.training.threads import MAKING_MODULES

# Functions that autocast computes in half precision on the CPU, as far as a UNet uses them.
_PRODUCTS = (functional.linear, functional.conv2d, torch.matmul, torch.bmm, torch.baddbmm)
_IN_HALF = frozenset({functional.scaled_dot_product_attention, *_PRODUCTS})


@dataclass(frozen=True)
class Case:
    """A way to train, on which the memory of a step depends.

    Attributes:
        latent_shape: (channels, h, w) of one picture.
        prompt_shape: (tokens, dim) of one caption.
        precision: the precision to compute in.
        storage: the type of the UNet's matrices.
    """

    latent_shape: tuple[int, int, int]
    prompt_shape: tuple[int, int]
    rank: int
    layers: LayerSet
    precision: TrainingPrecision
    storage: Storage
    checkpointing: bool


class DryRuns:
    """Dry runs of one base model; each case runs once.

    Args:
        model: its diffusers folder; only the UNet's configuration is read.
    """

    def __init__(self, model: Path) -> None:
        self._model = model
        self._peak = cache(self._measured)
        unet = empty_unet(model)
        self._shapes = [tuple(parameter.shape) for parameter in unet.parameters()]
        self._slots = Slots(unet, "")

    def weights(self, storage: Storage) -> int:
        """Bytes of all weights: matrices as they are stored, vectors in float32."""
        return sum(stored_size(math.prod(shape), len(shape), storage) for shape in self._shapes)

    def parameters(self, rank: int, layers: LayerSet) -> int:
        """Numbers of the factors of an adapter."""
        shapes = self._slots.shapes(layers).values()
        return sum(rank * (shape.in_features + shape.out_features) for shape in shapes)

    def peak(self, case: Case, pictures: int) -> int:
        """Bytes of tensors at the peak of a step of so many pictures at once, without the UNet's weights.

        The memory of a step grows evenly with the pictures, so that one and two suffice.
        """
        one = self._peak(case, 1)
        return one if pictures == 1 else one + (pictures - 1) * (self._peak(case, 2) - one)

    def _measured(self, case: Case, pictures: int) -> int:
        side = case.latent_shape[-1]
        as_on_cpu = partial(_AsOnCpu, case.precision, fused=not short_sequence(side))
        with MAKING_MODULES, torch.device("meta"):
            unet = self._unet(case, as_on_cpu)
            latents = torch.empty(pictures, *case.latent_shape).contiguous(memory_format=torch.channels_last)
            prompts = torch.empty(pictures, *case.prompt_shape)
            timesteps = torch.zeros(pictures, dtype=torch.int64)
            with _Live(unet.parameters()) as live, as_on_cpu():
                with fast_kernels(case.precision, side):
                    predicted = unet(latents, timesteps, prompts).sample
                (predicted.float() - latents).square().mean().backward()
        return int(live.peak)

    def _unet(self, case: Case, as_on_cpu: Callable[[], TorchFunctionMode]) -> UNet2DConditionModel:
        unet = empty_unet(self._model)
        weights = {name: laid_out(weight, case.storage) for name, weight in unet.state_dict().items()}
        unet.load_state_dict(viewed(weights), assign=True)
        freeze(unet)
        if case.checkpointing:
            # Inside a backward pass the mode around it is off.
            again = partial(computed_again, context_fn=lambda: (nullcontext(), as_on_cpu()))
            unet.enable_gradient_checkpointing(again)
        names = module_names(Slots(unet, "").shapes(case.layers))
        unet.add_adapter(LoraConfig(r=case.rank, lora_alpha=case.rank, target_modules=names))
        for parameter in unet.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        return unet


class _AsOnCpu(TorchFunctionMode):  # type: ignore[misc]  # torch is not type-checked
    """Lets tensors without content go through the kernels that the CPU would take: fused attention, autocast.

    fused: attention is fused, and keeps no matrix of weights.
    """

    def __init__(self, precision: TrainingPrecision, *, fused: bool) -> None:
        super().__init__()
        self._half = precision == "bf16"
        self._fused = fused

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._half and torch.is_autocast_enabled("cpu") and function in _IN_HALF:
            args, kwargs = tree_map_only(Tensor, _halved, (args, kwargs))
        if self._fused and function is functional.scaled_dot_product_attention:
            query, key, value, *_ = args if args else (kwargs["query"], kwargs["key"], kwargs["value"])
            return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value)[0]
        return function(*args, **kwargs)


def _halved(tensor: Tensor) -> Tensor:
    return tensor.to(torch.bfloat16) if tensor.dtype == torch.float32 else tensor


class _Live(TorchDispatchMode):  # type: ignore[misc]  # torch is not type-checked
    """Counts the bytes of storages that are made inside and still alive, and keeps the largest sum.

    made_before: tensors that do not count.
    """

    def __init__(self, made_before: Any) -> None:
        super().__init__()
        self.peak = self._now = 0
        self._known = WeakIdKeyDictionary()
        for tensor in made_before:
            self._known[tensor.untyped_storage()] = None

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for made in tree_iter(result):
            if isinstance(made, Tensor):
                self._count(made.untyped_storage())
        return result

    def _count(self, storage: Any) -> None:
        if storage in self._known:
            return
        size = storage.nbytes()
        self._known[storage] = None
        weakref.finalize(storage, self._forget, size)
        self._now += size
        self.peak = max(self.peak, self._now)

    def _forget(self, size: int) -> None:
        self._now -= size
