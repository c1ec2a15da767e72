"""The adapter: LoRA factors keyed by layer, and the checks that decide whether to trust one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import AdapterFormatError, AdapterMismatch, AdapterValueError

MAX_LAYERS = 4096
MAX_RANK = 1024
# Factors of trained adapters stay below 10. Numbers far beyond that come from a broken or a hostile file.
MAX_MAGNITUDE = 1e4

_LAYER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}(\.[A-Za-z0-9_]{1,64}){1,32}")
_NOTE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MAX_NOTES = 64
_MAX_NOTE = 4096

Array = NDArray[np.floating[Any]]
Kernel = tuple[int, int]


class Shape(NamedTuple):
    """A layer as its factors see it: a matrix (out_features, in_features).

    Attributes:
        in_features: of a convolution, its input channels times the area of its kernel.
        out_features: of a convolution, its output channels.
        kernel: height and width of a convolution's kernel; None for a linear layer.
    """

    in_features: int
    out_features: int
    kernel: Kernel | None = None

    def fits(self, other: Shape) -> bool:
        """True if factors of one shape fit the other. A 1x1 convolution is a linear layer at every place."""
        return self[:2] == other[:2] and (self.kernel or (1, 1)) == (other.kernel or (1, 1))

    def __str__(self) -> str:
        size = f"{self.out_features}x{self.in_features}"
        return f"{size} (kernel {self.kernel[0]}x{self.kernel[1]})" if self.kernel else size


@dataclass(frozen=True, eq=False)
class Factors:
    """The factors of one layer: its weight, as a matrix (out, in), changes by `b @ a`.

    The weight (out, channels, height, width) of a convolution is the matrix (out, channels * height * width). The LoRA
    scale alpha / rank is folded into `b`. Floating-point dtypes are kept as they are (files hold float32; the algebra
    keeps float64 where it is given float64).

    Attributes:
        a: shape (rank, in_features); PEFT's `lora_A.weight`, a convolution's flattened.
        b: shape (out_features, rank); PEFT's `lora_B.weight`, a convolution's without its kernel of 1x1.
        kernel: height and width of a convolution's kernel; None for a linear layer.

    Raises:
        AdapterFormatError: not two float matrices that share a rank from 1 to 1024, or a kernel that does not fit them.
    """

    a: Array
    b: Array
    kernel: Kernel | None = None

    def __post_init__(self) -> None:
        for matrix in (self.a, self.b):
            if not isinstance(matrix, np.ndarray) or matrix.ndim != 2 or matrix.dtype not in (np.float32, np.float64):
                raise AdapterFormatError("LoRA factors must be two matrices of float32 or float64.")
        if self.a.shape[0] != self.b.shape[1]:
            raise AdapterFormatError(
                f"LoRA factors do not fit: A is {self.a.shape} and B is {self.b.shape}; "
                "A must be (rank, in) and B (out, rank)."
            )
        if not 1 <= self.rank <= MAX_RANK or not self.in_features or not self.out_features:
            raise AdapterFormatError(f"LoRA rank {self.rank} is not between 1 and {MAX_RANK}, or a side is empty.")
        if self.kernel is not None and (
            len(self.kernel) != 2 or min(self.kernel) < 1 or self.in_features % (self.kernel[0] * self.kernel[1])
        ):
            raise AdapterFormatError(f"Factors with {self.in_features} inputs cannot be of a kernel {self.kernel}.")

    @property
    def rank(self) -> int:
        return int(self.a.shape[0])

    @property
    def in_features(self) -> int:
        return int(self.a.shape[1])

    @property
    def out_features(self) -> int:
        return int(self.b.shape[0])

    @property
    def shape(self) -> Shape:
        return Shape(self.in_features, self.out_features, self.kernel)


@dataclass(frozen=True, eq=False)
class Adapter:
    """LoRA factors by layer.

    Attributes:
        layers: full PEFT path with the component in front -> factors, for example
            "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q". Layers of the CLIP text encoder are named
            "text_encoder.text_model. ...", whatever the version of transformers.
        base_id: the id of the base model that it was trained on; None if the file does not say.
        notes: free metadata, short strings; everybody who gets the adapter gets them.
        source: the file that it was read from, for messages only; None if it was made here.

    Raises:
        AdapterFormatError: no layer, too many, or a name that is no layer path; notes that are no short strings.
    """

    layers: Mapping[str, Factors]
    base_id: str | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    source: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.layers) <= MAX_LAYERS:
            raise AdapterFormatError(f"An adapter has 1 to {MAX_LAYERS} layers, this one has {len(self.layers)}.")
        for name in self.layers:
            if not _LAYER.fullmatch(name):
                raise AdapterFormatError(f"{name[:200]!r} is no layer path such as 'unet.mid_block.attentions.0.to_q'.")
        if len(self.notes) > _MAX_NOTES or any(
            not _NOTE.fullmatch(key) or len(value) > _MAX_NOTE for key, value in self.notes.items()
        ):
            raise AdapterFormatError(
                f"Notes of an adapter: at most {_MAX_NOTES}, keys of 1 to 64 letters, digits, '_', '.', '-', "
                f"values of at most {_MAX_NOTE} characters."
            )
        if self.base_id is not None and not 1 <= len(self.base_id) <= 128:
            raise AdapterFormatError("The base id of an adapter has 1 to 128 characters.")

    @property
    def rank(self) -> int:
        """The largest rank of its layers."""
        return max(factors.rank for factors in self.layers.values())

    @property
    def parameters(self) -> int:
        """Number of parameters in its factors."""
        return sum(factors.a.size + factors.b.size for factors in self.layers.values())


def check_values(adapter: Adapter) -> None:
    """Raise AdapterValueError if a factor holds NaN, infinity or a magnitude above `MAX_MAGNITUDE`."""
    with np.errstate(over="ignore", invalid="ignore"):
        for name, factors in adapter.layers.items():
            for letter, matrix in (("A", factors.a), ("B", factors.b)):
                if not _is_sound(matrix.reshape(-1)):
                    raise AdapterValueError(
                        f"{_origin(adapter)}Factor {letter} of layer {name} holds NaN, infinite or huge numbers (above "
                        f"{MAX_MAGNITUDE:g}). Its training diverged or the file is damaged: train it again with a "
                        "smaller learning rate."
                    )


def _is_sound(numbers: Array) -> bool:
    """True if no number is NaN, infinite or too large.

    The sum of squares nearly always decides, at a fifth of the cost of looking at each number. A NaN compares false.
    """
    return bool(numbers @ numbers <= MAX_MAGNITUDE**2) or bool(np.all(np.abs(numbers) <= MAX_MAGNITUDE))


def check(adapter: Adapter, slots: Mapping[str, Shape], base_id: str) -> None:
    """Check that an adapter may be used on a base model: `check_fit` and `check_values`."""
    check_fit(adapter, slots, base_id)
    check_values(adapter)


def check_fit(adapter: Adapter, slots: Mapping[str, Shape], base_id: str) -> None:
    """Check that an adapter was made for a base model, by its base id, layers and shapes, not by its numbers.

    Args:
        adapter: the adapter; one without a base id is judged by its shapes alone.
        slots: the LoRA slots of the base model, by name; a 1x1 convolution and a linear layer fit each other.
        base_id: the id of the base model.

    Raises:
        AdapterMismatch: the adapter is of another base model, a layer has no slot, or its shape is not the slot's; the
            message names the file if the adapter was read from one.
    """
    origin = _origin(adapter)
    if adapter.base_id is not None and adapter.base_id != base_id:
        raise AdapterMismatch(
            f"{origin}The adapter belongs to base model {adapter.base_id[:12]}…, this one is {base_id[:12]}…. "
            "Load the base model that it was trained on, or train the adapter again."
        )
    for name, factors in adapter.layers.items():
        if name not in slots:
            raise AdapterMismatch(origin + _no_slot(adapter, name))
        if not factors.shape.fits(slots[name]):
            raise AdapterMismatch(
                f"{origin}Layer {name} is {factors.shape} in the adapter and {slots[name]} in the slot: "
                "it was trained on another base model."
            )


def _no_slot(adapter: Adapter, name: str) -> str:
    """The message for a layer without a slot: the reason, and what helps."""
    component = name.partition(".")[0]
    if component.startswith("text_encoder"):
        count = sum(layer.startswith("text_encoder") for layer in adapter.layers)
        return (
            f"{count} of its {len(adapter.layers)} layers change the text encoder ({name}), which takes no adapters on "
            "a device: make the whole of it part of a bundle with `impasto-export --fuse FILE`, or train it on the "
            "UNet alone (kohya: --network_train_unet_only)."
        )
    if component != "unet":
        return f"The base model has no layer {name!r}: the adapter fits another architecture than Stable Diffusion's."
    return (
        f"The base model has no LoRA slot {name!r}: the adapter fits another architecture, or the bundle was "
        "exported with fewer slots (`impasto-export --slots all` makes all of them)."
    )


def _origin(adapter: Adapter) -> str:
    return f"{adapter.source}: " if adapter.source else ""
