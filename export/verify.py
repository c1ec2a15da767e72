"""Verification of written graphs against torch: the files themselves, in the runtime that devices use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from edge_sdk.errors import VerificationFailed
from edge_sdk.inference.bundle import Slot
from edge_sdk.inference.runtime import give_back, lean_options, load
from export.source import Part

TOLERANCE = 1e-3
_RANKS = (1, 4, 3, 16)
_OBLONG = (3, 1)
_Arrays = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        what: name of the comparison ("unet with adapter").
        feed: inputs of the graph.
        wanted: torch's results for them.
    """

    what: str
    feed: Mapping[str, npt.NDArray[Any]]
    wanted: Sequence[npt.NDArray[np.float32]]


def check_part(part: Part, path: Path, slots: Sequence[Slot] = (), *, last_use: bool = False) -> dict[str, float]:
    """Compare a graph with its torch module on random input, and with a random adapter if it has slots.

    Batch and size differ from those of tracing: the size that the base model was trained for, and a small oblong one.
    The adapter leaves out every fifth slot and mixes ranks, as adapters of devices of different strength do.

    Args:
        part: the part, with its torch module.
        path: the written graph.
        slots: its LoRA slots.
        last_use: true if the torch module is not needed afterwards. It gives up its weights before the graph is opened,
            so that memory never holds both.

    Returns:
        Name of each comparison ("unet", "unet with adapter") -> largest difference, relative to torch's largest value.

    Raises:
        VerificationFailed: an error above `TOLERANCE`, or a result that is not finite.
    """
    cases = _cases(part, slots)
    if last_use:
        nn.Module.to(part.network, "meta")
        give_back()
    # Weights stay in their file: an XL graph opened as usual takes 20 GB, a copy of the weights in each order.
    session = load(path, lean_options())
    errors: dict[str, float] = {}
    for case in cases:
        results = session.run(list(part.outputs), dict(case.feed))
        errors[case.what] = max(
            relative_error(result, wanted) for result, wanted in zip(results, case.wanted, strict=True)
        )
    for what, value in errors.items():
        # Also true for NaN.
        if not value <= TOLERANCE:
            raise VerificationFailed(
                f"The exported {what} differs from torch by {value:.1e}, at most {TOLERANCE:.0e} is allowed. Nothing "
                "was written: use the versions of constraints.txt, or report the model."
            )
    return errors


def _cases(part: Part, slots: Sequence[Slot]) -> list[Case]:
    rng = torch.Generator().manual_seed(1)
    inputs = part.make_inputs(1, (part.side, part.side), rng)

    def case(what: str, inputs: Mapping[str, torch.Tensor], factors: _Arrays) -> Case:
        feed = {name: tensor.numpy() for name, tensor in inputs.items()}
        return Case(what, {**feed, **factors}, [result.numpy() for result in part.run(inputs)])

    cases = [case(part.name, inputs, {})]
    if part.step is not None:
        cases.append(case(f"{part.name}, oblong", part.make_inputs(1, _OBLONG, rng), {}))
    if slots:
        factors = random_factors(slots, rng)
        with merged(part.network, slots, factors):
            cases.append(case(f"{part.name} with adapter", inputs, factors))
    return cases


def relative_error(found: npt.NDArray[np.float32], wanted: npt.NDArray[np.float32]) -> float:
    """Return the largest absolute difference over the largest absolute value of `wanted`; infinite for other shapes."""
    if found.shape != wanted.shape:
        return float("inf")
    return float(np.abs(found - wanted).max() / max(float(np.abs(wanted).max()), 1e-12))


def random_factors(slots: Sequence[Slot], rng: torch.Generator) -> _Arrays:
    """Return the ONNX inputs of an adapter that changes layers about as much as their weights are large."""
    factors: _Arrays = {}
    for number, slot in enumerate(slots):
        if number % 5 == 4:
            continue
        rank = _RANKS[number % len(_RANKS)]
        a = torch.randn(slot.in_features, rank, generator=rng) / slot.in_features**0.5
        b = torch.randn(rank, slot.out_features, generator=rng) / rank**0.5
        factors[slot.input_a], factors[slot.input_b] = a.numpy(), b.numpy()
    return factors


@contextmanager
def merged(unet: nn.Module, slots: Sequence[Slot], factors: _Arrays) -> Iterator[None]:
    """Add the factors to the UNet's weights inside the context, and restore the weights afterwards."""
    originals: dict[nn.Module, torch.Tensor] = {}
    try:
        for slot in slots:
            if slot.input_a in factors:
                layer = unet.get_submodule(slot.name.removeprefix("unet."))
                weight = originals[layer] = layer.weight.data
                delta = torch.from_numpy(factors[slot.input_a] @ factors[slot.input_b]).T
                layer.weight.data = weight + delta.reshape(weight.shape)
        yield
    finally:
        for layer, weight in originals.items():
            layer.weight.data = weight
