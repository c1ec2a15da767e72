"""One sum that both sides compute: devices, numbers, weights, and who is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from benchmarks.shared.stickers import MODEL
from edge_sdk.secure_aggregation import parameters

RANK = 8
SLOTS = 4
SPREAD = 0.02
DEVIATIONS = 7  # standard deviations that are not clipped
_LOST = 0.3
_ENDS = tuple(f"{name}.weight" for name in ("to_q", "to_k", "to_v", "to_out.0"))


@dataclass(frozen=True)
class Sum:
    """A weighted mean over devices.

    Attributes:
        devices: names of the devices are their numbers from `first` on.
        tensors: size of each tensor of a device, and the standard deviation of its numbers, which are normal.
        weights: weight of each device.
        lost: devices that are lost after they have sent their shares, when a sum costs most.
        seed: of the numbers.
        first: number of the first device.
    """

    devices: int
    tensors: tuple[tuple[int, float], ...]
    weights: tuple[int, ...]
    lost: tuple[int, ...]
    seed: int
    first: int = 0

    def values(self, number: int) -> list[NDArray[np.float32]]:
        """The tensors of a device, the same as in `flower_sums`."""
        drawn = np.random.default_rng([self.seed, self.first + number])
        return [(drawn.standard_normal(size, np.float32) * spread).astype(np.float32) for size, spread in self.tensors]

    @property
    def staying(self) -> list[int]:
        """Numbers of the devices that are not lost."""
        gone = set(self.lost)
        return [number for number in range(self.devices) if number not in gone]

    def total(self) -> list[NDArray[np.float64]]:
        """The weighted sum over those that stay."""
        total = [np.zeros(size) for size, _ in self.tensors]
        for number in self.staying:
            for tensor, values in zip(total, self.values(number), strict=True):
                tensor += self.weights[number] * values.astype(np.float64)
        return total

    def for_flower(self, clip: float | None = None, graph: tuple[int, int] | None = None) -> dict[str, Any]:
        """The settings of `flower_sums`.

        Args:
            clip: its one clipping range; None leaves as many deviations of the widest tensor as ours.
            graph: neighbours and threshold; None takes ours.
        """
        neighbours, threshold = graph or parameters(self.devices)
        widest = DEVIATIONS * max(spread for _, spread in self.tensors)
        return {**asdict(self), "shares": neighbours + 1, "threshold": threshold, "clip": clip or widest}


def make_sum(devices: int, tensors: Sequence[tuple[int, float]], seed: int, *, lost: float = _LOST) -> Sum:
    """A sum of so many devices with weights from 8 to 64, of which a share is lost."""
    drawn = np.random.default_rng(seed)
    gone = drawn.permutation(devices)[: int(devices * lost + 1e-9)]
    return Sum(
        devices=devices,
        tensors=tuple(tensors),
        weights=tuple(int(weight) for weight in drawn.integers(8, 65, devices)),
        lost=tuple(sorted(int(number) for number in gone)),
        seed=seed,
    )


def adapter_size() -> int:
    """Numbers of a rank-8 adapter of the stickers model's attention, A and B."""
    file = MODEL / "unet" / "diffusion_pytorch_model.safetensors"
    return RANK * sum(sum(shape) for shape in _shapes(file))


def worst_error(found: Sequence[NDArray[np.float64]], wanted: Sequence[NDArray[np.float64]]) -> float:
    """The largest relative error of a tensor, norm over norm."""
    pairs = zip(found, wanted, strict=True)
    return max(float(np.linalg.norm(mine - theirs) / np.linalg.norm(theirs)) for mine, theirs in pairs)


def _shapes(file: Path) -> list[list[int]]:
    with safe_open(file, "numpy") as tensors:
        names = [name for name in tensors.keys() if name.endswith(_ENDS) and ".attentions." in name]  # noqa: SIM118
        return [list(tensors.get_slice(name).get_shape()) for name in names]
