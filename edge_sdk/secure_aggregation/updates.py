"""Updates of a round as vectors of a masked sum: its terms, its layout, a device's vector, and the mean that comes out.

What is summed is the change by training, factor by factor: after A and B of the round's start, the numbers that are
left are small and of one size, so that 22 bits hold them to a few millionths. A factor that a round does not train is
the same on all devices, and takes no room. The figures of the training are summed with them, so that no device's own
are seen.

    common      pictures, first_loss, last_loss, train_seconds
    slot        for each layer, in the order of names: the change of A, the change of B, of those that are trained

There is one slot, but where devices choose their clusters alone: then there are several, and a device fills its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.adapter import Adapter, Factors, Share
from edge_sdk.secure_aggregation.fixed_point import Decoded, Layout, Scaled, encoded
from edge_sdk.secure_aggregation.masks import to_bytes
from edge_sdk.secure_aggregation.policy import Policy
from edge_sdk.secure_aggregation.terms import Terms
from edge_sdk.wire import ClusterStart, Masking, RoundStart, TrainingStats, sum_id

# The largest figures that are not clipped: 22 bits give losses to a hundred-thousandth, seconds to a twentieth.
FIGURES: Mapping[str, float] = {"pictures": 65536.0, "first_loss": 64.0, "last_loss": 64.0, "train_seconds": 100_000.0}
SUMMABLE: Mapping[Share, str] = {Share.BOTH: "ab", Share.A: "a", Share.B: "b"}
"""Shares that a round may train under masks, and the factors that are summed: others are the same on all devices."""


def policy_of(masking: Masking) -> Policy:
    """The policy that a round's masking states."""
    return Policy(
        colluding=masking.colluding,
        dropping=masking.dropping,
        security_bits=masking.security_bits,
        failure_bits=masking.failure_bits,
    )


def terms_of(federation: str, start: RoundStart | ClusterStart, words: int) -> Terms:
    """The terms of the masked sum that a RoundStart or ClusterStart asks for; it must have `masking`.

    Args:
        federation: name of the federation.
        start: the step. Two that differ by their deadlines, or by the size of chunks, have the same terms.
        words: length of the vectors, as of `layout_of`, or of the answers to a question.
    """
    masking = start.masking
    assert masking is not None, "the round is one under masks"
    return Terms(
        federation=federation,
        epoch=masking.epoch,
        round=0 if isinstance(start, ClusterStart) else start.round,
        attempt=start.attempt,
        step=bytes.fromhex(sum_id(federation, start)),
        words=words,
        policy=policy_of(masking),
        losses=(None if start.noise else 0) if isinstance(start, ClusterStart) else start.losses,
        once=isinstance(start, RoundStart) and not is_count(start),
    )


def is_count(start: RoundStart | ClusterStart) -> bool:
    """True for a round in which the devices of each cluster are counted, before their updates are summed."""
    return isinstance(start, RoundStart) and bool(start.centroids) and not start.slots


def slots_of(start: RoundStart) -> int:
    """Number of slots of the sum of updates that a RoundStart asks for."""
    return max(start.slots, default=0) + 1


def layout_of(sizes: Mapping[str, tuple[int, int]], masking: Masking, share: Share, slots: int = 1) -> Layout:
    """The layout of vectors.

    Args:
        sizes: layer -> numbers in A and in B.
        masking: the round's masking.
        share: what the round trains, one of `SUMMABLE`.
        slots: number of slots.
    """
    tensors = [
        Scaled(name=f"{name}.{factor}", size=size, scale=masking.largest_change)
        for name in sorted(sizes)
        for factor, size in zip("ab", sizes[name], strict=True)
        if factor in SUMMABLE[share]
    ]
    common = [Scaled(name=name, size=1, scale=scale) for name, scale in FIGURES.items()]
    return Layout(slots=slots, tensors=tuple(tensors), common=tuple(common))


def sizes_of(adapter: Adapter) -> dict[str, tuple[int, int]]:
    """Layer -> numbers in A and in B of an adapter."""
    return {name: (factors.a.size, factors.b.size) for name, factors in adapter.layers.items()}


def vector_of(
    update: Adapter, start: Adapter, stats: TrainingStats, masking: Masking, share: Share, slot: int = 0, slots: int = 1
) -> bytes:
    """A device's plain vector: the change by training, multiplied with its weight, and the figures of the training.

    Args:
        update: the trained adapter.
        start: the adapter that its training started from, of the same layers and ranks.
        stats: figures of the training; its pictures are the weight.
        masking: the round's masking.
        share: what the round trains, one of `SUMMABLE`.
        slot, slots: the device's slot, and the number of slots; the others are zero.

    Raises:
        AdapterMismatch: the adapters differ in a shape.
        AdapterValueError: a number is not finite, or there is no such slot.
    """
    layout = layout_of(sizes_of(start), masking, share, slots)
    changes: dict[str, NDArray[np.float64]] = {}
    for name, new in update.layers.items():
        old = start.layers.get(name, new)
        for factor in SUMMABLE[share]:
            changes[f"{name}.{factor}"] = _difference(getattr(new, factor), getattr(old, factor))
    weight = min(stats.pictures, masking.largest_weight) / masking.largest_weight
    figures = {name: min(float(value), FIGURES[name]) for name, value in stats.figures().items()}
    return to_bytes(encoded(layout, slot, weight, changes, figures))


def mean_of(start: Adapter, decoded: list[Decoded], slot: int = 0) -> Adapter:
    """The adapter after a round: its start, and the weighted mean of the changes of the factors that were trained.

    Args:
        start: the adapter that all devices started from.
        decoded: the decoded sums of the devices, one or more, each with a weight above zero.
        slot: the slot that the devices have filled.
    """
    weights = [one.slots[slot].weight for one in decoded]
    total = sum(weights)

    def added(name: str, old: NDArray[Any]) -> NDArray[np.float64]:
        moved: NDArray[np.float64] = old.astype(np.float64)
        for one, weight in zip(decoded, weights, strict=True):
            if name in one.slots[slot].tensors:
                moved += one.slots[slot].tensors[name].reshape(old.shape) * (weight / total)
        return moved

    layers = {
        name: Factors(added(f"{name}.a", old.a), added(f"{name}.b", old.b), old.kernel)
        for name, old in start.layers.items()
    }
    return Adapter(layers, start.base_id)


def figures_of(decoded: list[Decoded], devices: list[int]) -> dict[str, float]:
    """Mean figures of the training over all devices, and the share of numbers that were clipped.

    Args:
        decoded: the decoded sums.
        devices: number of devices of each.
    """
    there = sum(devices)
    found = {name: sum(float(one.common[name][0]) for one in decoded) / there for name in FIGURES}
    clipped = sum(one.clipped * count for one, count in zip(decoded, devices, strict=True)) / there
    return {**found, "clipped": clipped}


def _difference(new: NDArray[Any], old: NDArray[Any]) -> NDArray[np.float64]:
    if new.shape != old.shape:  # `encoded` refuses the size by name
        return np.asarray(new, np.float64)
    return new.astype(np.float64) - old.astype(np.float64)
