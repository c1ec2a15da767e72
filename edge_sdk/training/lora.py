"""LoRA on the UNet's attention projections: where, how it starts, what lies frozen under it, what comes out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from numpy.typing import NDArray
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from edge_sdk.adapter import Adapter, Factors, check

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
_PREFIX = "unet."


def target_layers(unet: UNet2DConditionModel) -> dict[str, nn.Linear]:
    """The linear layers that adapters change, by layer name ("unet." in front), in the order of the model."""
    return {
        f"{_PREFIX}{name}": module
        for name, module in unet.named_modules()
        if isinstance(module, nn.Linear) and name.endswith(tuple(f".{target}" for target in TARGETS))
    }


class Slots:
    """The target layers of one UNet, with their weights kept in float32 so that adapters can be laid on and taken off.

    Every adapter is checked against the slots and the base id before anything changes.
    """

    def __init__(self, unet: UNet2DConditionModel, base_id: str) -> None:
        self.base_id = base_id
        self._unet = unet
        self._layers = target_layers(unet)
        self._base = {name: layer.weight.detach().clone() for name, layer in self._layers.items()}
        self.shapes = {name: (layer.in_features, layer.out_features) for name, layer in self._layers.items()}

    @contextmanager
    def laid_on(self, adapters: Sequence[tuple[Adapter, float]]) -> Iterator[None]:
        """Inside, the weights are W + sum of weight * B A: as exact as a side branch, and free of charge per step.

        Raises:
            AdapterMismatch, AdapterValueError: an adapter does not fit this base model.
        """
        for adapter, _ in adapters:
            check(adapter, self.shapes, self.base_id)
        changed = {name for adapter, _ in adapters for name in adapter.layers}
        try:
            for name in changed:
                self._write(name, self._base[name] + _product(name, adapters))
            yield
        finally:
            for name in changed:
                self._write(name, self._base[name])

    @contextmanager
    def trained(self, start: Adapter | None, rank: int, seed: int) -> Iterator[Trained]:
        """Inside, every slot has LoRA factors that take gradients; afterwards the UNet is plain again.

        Raises:
            AdapterMismatch, AdapterValueError: `start` does not fit this base model.
        """
        if start is not None:
            check(start, self.shapes, self.base_id)
        factors = {
            name: initial_factors(name, shape, rank, seed, start.layers.get(name) if start else None)
            for name, shape in self.shapes.items()
        }
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
            yield Trained(self._unet, factors, self.base_id)
        finally:
            self._unet.unload_lora()

    def _write(self, name: str, weight: Tensor) -> None:
        self._layers[name].weight.data.copy_(weight)


class Trained:
    """The LoRA factors inside the UNet while they are trained: float32 parameters named like the keys of their file."""

    def __init__(self, unet: UNet2DConditionModel, factors: dict[str, Factors], base_id: str) -> None:
        self._base_id = base_id
        self.parameters: dict[str, nn.Parameter] = {}
        for name, module in unet.named_modules():
            if isinstance(module, LoraLayer):
                layer = f"{_PREFIX}{name}"
                # peft gives new factors the dtype of the base weight, which may be bfloat16.
                for letter, part, value in (
                    ("A", module.lora_A, factors[layer].a),
                    ("B", module.lora_B, factors[layer].b),
                ):
                    parameter = part["default"].weight
                    parameter.data = torch.from_numpy(value.copy())
                    self.parameters[f"{layer}.lora_{letter}.weight"] = parameter
        self._layers = list(factors)

    def adapter(self) -> Adapter:
        """The factors as they are now. peft's scale is 1 (alpha = rank)."""
        return Adapter(
            {name: Factors(self._value(name, "A"), self._value(name, "B")) for name in self._layers}, self._base_id
        )

    def _value(self, layer: str, letter: str) -> NDArray[np.float32]:
        value: NDArray[np.float32] = self.parameters[f"{layer}.lora_{letter}.weight"].detach().numpy().copy()
        return value


def initial_factors(layer: str, shape: tuple[int, int], rank: int, seed: int, start: Factors | None = None) -> Factors:
    """Where the training of one layer starts: at `start`, or at the common initialisation of `seed`.

    The common initialisation is peft's (A uniform within 1/sqrt(in_features), B zero), drawn by layer name, so that
    every device of a federation gets the same A, and a device of smaller rank the first rows of it. A `start` of
    smaller rank is filled up with such rows, which leaves its product unchanged; one of larger rank keeps its rank.

    Args:
        shape: (in_features, out_features).
    """
    in_features, out_features = shape
    key = hashlib.sha256(f"{seed}/{layer}".encode()).digest()[:16]
    rng = np.random.Generator(np.random.PCG64(int.from_bytes(key, "little")))
    bound = in_features**-0.5
    a = rng.uniform(-bound, bound, (rank, in_features)).astype(np.float32)
    b = np.zeros((out_features, rank), np.float32)
    if start is None:
        return Factors(a, b)
    r = start.rank
    return Factors(
        np.concatenate([start.a.astype(np.float32), a[r:]]),
        np.concatenate([start.b.astype(np.float32), b[:, r:]], axis=1),
    )


def _product(name: str, adapters: Sequence[tuple[Adapter, float]]) -> Tensor:
    terms = [(adapter.layers[name], weight) for adapter, weight in adapters if name in adapter.layers]
    return torch.from_numpy(np.sum([weight * (f.b @ f.a) for f, weight in terms], axis=0, dtype=np.float32))
