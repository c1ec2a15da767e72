"""Does the written graph compute what torch computes? Asked of the files themselves, in the runtime the device uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from edge_sdk.errors import VerificationFailed
from edge_sdk.inference.bundle import Slot
from edge_sdk.inference.sessions import open_session
from export.parts import Part

TOLERANCE = 1e-3
_RANKS = (1, 4, 3, 16)
_OBLONG = (3, 1)
_Arrays = dict[str, npt.NDArray[np.float32]]


def check_part(part: Part, path: Path, slots: Sequence[Slot] = ()) -> dict[str, float]:
    """Compare a graph with its torch module on random input, and with a random adapter if it has slots.

    Batch and size are others than the graph was traced with: the size that the base model was trained for, and a small
    oblong one. The adapter leaves out every fifth slot and mixes ranks, which is what devices of different strength
    send.

    Returns:
        What was compared ("unet", "unet with adapter") -> the largest difference relative to torch's largest value.

    Raises:
        VerificationFailed: an error above `TOLERANCE`, or a result that is not finite.
    """
    session = open_session(path)
    rng = torch.Generator().manual_seed(1)
    inputs = part.make_inputs(1, (part.side, part.side), rng)

    def error(inputs: Mapping[str, torch.Tensor], factors: Mapping[str, npt.NDArray[np.float32]]) -> float:
        feed = {name: tensor.numpy() for name, tensor in inputs.items()}
        results = session.run(list(part.outputs), {**feed, **factors})
        return max(
            relative_error(result, wanted.numpy()) for result, wanted in zip(results, part.run(inputs), strict=True)
        )

    errors = {part.name: error(inputs, {})}
    if part.step is not None:
        errors[f"{part.name}, oblong"] = error(part.make_inputs(1, _OBLONG, rng), {})
    if slots:
        factors = random_factors(slots, rng)
        with merged(part.network, slots, factors):
            errors[f"{part.name} with adapter"] = error(inputs, factors)
    for what, value in errors.items():
        # Also true for NaN.
        if not value <= TOLERANCE:
            raise VerificationFailed(
                f"The exported {what} differs from torch by {value:.1e}, at most {TOLERANCE:.0e} is allowed. Nothing "
                "was written: use the versions of constraints.txt, or report the model."
            )
    return errors


def relative_error(found: npt.NDArray[np.float32], wanted: npt.NDArray[np.float32]) -> float:
    """Largest absolute difference over the largest absolute value wanted; infinite for other shapes."""
    if found.shape != wanted.shape:
        return float("inf")
    return float(np.abs(found - wanted).max() / max(float(np.abs(wanted).max()), 1e-12))


def random_factors(slots: Sequence[Slot], rng: torch.Generator) -> _Arrays:
    """ONNX inputs of an adapter that changes the layers about as much as their weights are large."""
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
    """The UNet with the factors added to its weights, which are put back afterwards."""
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
