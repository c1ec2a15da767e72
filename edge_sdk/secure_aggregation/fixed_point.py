"""Updates as integers that can be masked and summed, and sums back as means. No floating point between the two.

A vector has a part for each of K slots (a device fills its cluster's slot and leaves the others zero, so that the
length tells nothing) and a common part:

    vector      1 | clipped | common tensors | slot 0 | ... | slot K - 1
    slot        weight | tensors, multiplied with the weight

`weight` is the device's weight over the largest one, so at most 1. A number x of a tensor with scale s becomes round(x
/ s (2^21 - 1)), clipped to 22 bits with their sign, rounded up or down at random so that the mean is right: the chance
to go up is the fraction. 10 bits of head room hold the sum of 1,024 devices modulo 2^32. The first word is 1: its sum
is the number of devices, unless a mask is left in the sum. `clipped` is the share of this device's numbers that were
clipped, from which an operator sees that the scales are too small.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import ArrayLike, NDArray

from edge_sdk.errors import AdapterMismatch, AdapterValueError, ConfigurationError, MasksLeft
from edge_sdk.secure_aggregation.masks import Words
from edge_sdk.secure_aggregation.policy import MOST_DEVICES

VALUE_BITS = 22
LARGEST = (1 << VALUE_BITS - 1) - 1
"""The largest value of one device; 1,024 of them fit into 32 bits with their sign."""
_BEFORE = 2  # words before the common tensors


class Scaled(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tensor of the vector.

    Attributes:
        name: its name.
        size: its numbers.
        scale: largest absolute value that is not clipped.
    """

    name: Annotated[str, Meta(max_length=200)]
    size: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    scale: Annotated[float, Meta(gt=0, lt=1e30)]


class Layout(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The layout of vectors, part of the signed step.

    Attributes:
        slots: number of slots, K.
        tensors: tensors of a slot.
        common: tensors outside of the slots, as for losses and sizes; they are summed without weights.
    """

    slots: Annotated[int, Meta(ge=1, le=256)]
    tensors: tuple[Scaled, ...]
    common: tuple[Scaled, ...] = ()

    def __post_init__(self) -> None:
        for tensors in (self.tensors, self.common):
            if len({tensor.name for tensor in tensors}) != len(tensors):
                raise ValueError("two tensors of a vector have the same name")
        if self.words >= 2**31:
            raise ValueError(f"a vector of {self.words} words is too long")

    @property
    def slot_words(self) -> int:
        """Words of a slot."""
        return 1 + sum(tensor.size for tensor in self.tensors)

    @property
    def words(self) -> int:
        """Words of a vector."""
        return _BEFORE + sum(tensor.size for tensor in self.common) + self.slots * self.slot_words


class Mean(msgspec.Struct, frozen=True):
    """Mean of a slot.

    Attributes:
        weight: sum of its devices' weights over the largest weight; 0 if nobody filled it.
        tensors: weighted means by name; empty if nobody filled it.
    """

    weight: float
    tensors: dict[str, NDArray[np.float64]]


class Decoded(msgspec.Struct, frozen=True):
    """A sum, decoded.

    Attributes:
        slots: the mean of each slot.
        common: sums of the common tensors by name.
        clipped: mean share of clipped numbers.
    """

    slots: list[Mean]
    common: dict[str, NDArray[np.float64]]
    clipped: float


def check_devices(devices: int) -> None:
    """Raise ConfigurationError if the sum of so many devices can overflow."""
    if devices > MOST_DEVICES:
        raise ConfigurationError(
            f"A masked sum of {devices} devices can overflow: it holds {MOST_DEVICES}. Divide them into "
            f"{-(-devices // MOST_DEVICES)} sums."
        )


def encoded(
    layout: Layout,
    slot: int,
    weight: float,
    tensors: Mapping[str, ArrayLike],
    common: Mapping[str, ArrayLike] | None = None,
    random: Callable[[int], bytes] | None = None,
) -> Words:
    """The plain vector of one device.

    Args:
        layout: the layout.
        slot: the slot that the device fills.
        weight: its weight over the largest weight, from 0 to 1.
        tensors: the numbers of the slot's tensors by name, of any shape.
        common: the numbers of the common tensors by name.
        random: gives so many random bytes; for tests. By default ChaCha20 with a key from the system's generator.

    Raises:
        AdapterMismatch: a tensor is missing, is too much, or has another size.
        AdapterValueError: a number is not finite, or the weight or the slot is out of range.
    """
    if not 0 <= weight <= 1:
        raise AdapterValueError(f"A weight of {weight} over the largest weight: it must be between 0 and 1.")
    if not 0 <= slot < layout.slots:
        raise AdapterValueError(f"Slot {slot} of a sum with {layout.slots} slots.")
    random = random or _system_stream()
    total = np.zeros(layout.words, np.uint32)
    clipped, start = 0, _BEFORE
    for given, described, factor in (
        (common or {}, layout.common, 1.0),
        (tensors, layout.tensors, weight),
    ):
        if described is layout.tensors:
            start += slot * layout.slot_words
            total[start : start + 1], _ = _rounded(np.array([weight]), 1.0, random)
            start += 1
        for tensor, numbers in _in_order(described, given):
            part, cut = _rounded(numbers * factor, tensor.scale, random)
            total[start : start + tensor.size] = part
            clipped, start = clipped + cut, start + tensor.size
    given_numbers = sum(tensor.size for tensor in (*layout.tensors, *layout.common))
    total[0] = 1
    total[1:2], _ = _rounded(np.array([clipped / max(given_numbers, 1)]), 1.0, random)
    return total


def decoded(layout: Layout, total: Words, devices: int) -> Decoded:
    """The means behind the sum of so many devices' vectors.

    Raises:
        ConfigurationError: see `check_devices`.
        AdapterMismatch: the sum has another length.
        MasksLeft: it is no sum of so many vectors, or a slot has a weight below zero.
    """
    check_devices(devices)
    if len(total) != layout.words:
        raise AdapterMismatch(f"A sum of {len(total)} words, and the layout has {layout.words}.")
    signed = total.astype(np.uint32, copy=False).view(np.int32)
    weights = signed[layout.words - layout.slots * layout.slot_words :: layout.slot_words]
    if int(total[0]) != devices or np.abs(signed.astype(np.int64)).max() > devices * LARGEST or weights.min() < 0:
        raise MasksLeft(
            f"The sum is not one of {devices} devices' vectors: masks are left in it, or a device's vector was none. "
            "Devices were shown different steps or rosters, or somebody has sent another vector in a device's name. "
            "Nothing is learnt from it."
        )
    numbers = signed.astype(np.float64) / LARGEST
    common, start = _tensors(layout.common, numbers, _BEFORE, 1.0)
    slots = []
    for _ in range(layout.slots):
        weight = float(numbers[start])
        if weight > 0:
            means, start = _tensors(layout.tensors, numbers, start + 1, weight)
            slots.append(Mean(weight, means))
        else:
            start += layout.slot_words
            slots.append(Mean(0.0, {}))
    return Decoded(slots, common, float(numbers[1]) / devices)


def _tensors(
    described: tuple[Scaled, ...], numbers: NDArray[np.float64], start: int, weight: float
) -> tuple[dict[str, NDArray[np.float64]], int]:
    found = {}
    for tensor in described:
        found[tensor.name] = numbers[start : start + tensor.size] * (tensor.scale / weight)
        start += tensor.size
    return found, start


def _in_order(
    described: tuple[Scaled, ...], given: Mapping[str, ArrayLike]
) -> list[tuple[Scaled, NDArray[np.float64]]]:
    names = [tensor.name for tensor in described]
    if set(names) != set(given):
        odd = sorted(set(names) ^ set(given))
        raise AdapterMismatch(
            f"The vector has {len(names)} tensors, and {len(given)} are given; not in both: {odd[:3]}."
        )
    found = []
    for tensor in described:
        numbers = np.asarray(given[tensor.name], np.float64).ravel()
        if numbers.size != tensor.size:
            raise AdapterMismatch(f"{tensor.name} has {numbers.size} numbers, and the vector has {tensor.size} for it.")
        if not np.isfinite(numbers).all():
            raise AdapterValueError(f"{tensor.name} holds NaN or infinite numbers.")
        found.append((tensor, numbers))
    return found


def _rounded(numbers: NDArray[np.float64], scale: float, random: Callable[[int], bytes]) -> tuple[Words, int]:
    """The integers of numbers, and how many were clipped."""
    exact = numbers * (LARGEST / scale)
    held = np.clip(exact, -LARGEST, LARGEST)
    low = np.floor(held)
    up = np.frombuffer(random(4 * numbers.size), "<u4") < (held - low) * 2.0**32
    return (low + up).astype(np.int64).astype(np.uint32), int(np.count_nonzero(held != exact))


def _system_stream() -> Callable[[int], bytes]:
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

    stream = Cipher(ChaCha20(os.urandom(32), bytes(16)), mode=None).encryptor()
    return lambda size: stream.update(bytes(size))
