"""The factors that a device trains and sends in a round, and the file that holds only those.

Some methods freeze a factor that both sides know, or keep one at home; sending it would waste bytes. The file of
a part has one matrix per layer: "<layer>.lora_A.weight" (r, in), "<layer>.lora_B.weight" (out, r) or
"<layer>.lora_core.weight" (r, r). It does not say which layers are convolutions: the device's starting point does.
`complete` makes an adapter of the part and the starting point.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import numpy as np

from edge_sdk.adapter.algebra import Matrix, align, concatenate, truncate
from edge_sdk.adapter.file import from_bytes, matrices_from_bytes, matrices_to_bytes, to_bytes
from edge_sdk.adapter.initial import filled_up, initial_factors
from edge_sdk.adapter.model import Adapter, Array, Factors, Shape, check_values
from edge_sdk.errors import AdapterFormatError, AdapterMismatch


class Share(str, Enum):
    """The factors that are trained and sent in a round.

    BOTH: both factors. A, B: this factor; the other one stays as it was at the start. A_ONLY: both are trained, A is
    sent, B stays at home. CORE: K of dW = Q_B K Q_A, between the orthonormal frames of the factors at the start.
    """

    BOTH = "both"
    A = "a"
    B = "b"
    A_ONLY = "a_only"
    CORE = "core"


_KEYS = {Share.A: "lora_A", Share.A_ONLY: "lora_A", Share.B: "lora_B", Share.CORE: "lora_core"}


def beginning(
    start: Adapter | None, slots: Mapping[str, Shape], rank: int, seed: int, share: Share = Share.BOTH
) -> Adapter:
    """The factors from which training starts, the same on the device and in the coordinator.

    They are the common initialisation of `seed`, or `start` with rows of that initialisation added up to `rank`, which
    changes no product; a `start` of larger rank keeps its own. A core is trained between the orthonormal frames of
    `start`.

    Raises:
        AdapterMismatch: a core is asked for, but there is no `start`, or it lacks layers.
    """
    if share is Share.CORE:
        if start is None or start.layers.keys() != slots.keys():
            raise AdapterMismatch("A core lies between trained factors: there must be a start with all layers.")
        return Adapter({name: _framed(factors) for name, factors in start.layers.items()}, start.base_id)
    known = start.layers if start else {}
    layers = {
        name: filled_up(known[name], rank, name, seed) if name in known else initial_factors(name, shape, rank, seed)
        for name, shape in slots.items()
    }
    return Adapter(layers, start.base_id if start else None)


def pack(adapter: Adapter, start: Adapter, share: Share) -> bytes:
    """The file that a device sends.

    Args:
        adapter: the trained adapter.
        start: the `beginning` of its training.

    Raises:
        AdapterValueError: NaN, infinite or huge numbers.
    """
    if share is Share.BOTH:
        return to_bytes(adapter)
    check_values(adapter)
    parts = {name: _part(factors, start.layers[name], share) for name, factors in adapter.layers.items()}
    return matrices_to_bytes({f"{name}.{_KEYS[share]}.weight": m for name, m in parts.items()}, adapter.base_id)


def complete(data: bytes, start: Adapter, share: Share) -> Adapter:
    """The adapter of a file that a device sent.

    `start`: the `beginning` of the device's training. With A_ONLY, B is zero, as it stayed at home.

    Raises:
        AdapterFormatError: not the file of such a part.
        AdapterMismatch: layers or shapes other than those of `start`.
        AdapterValueError: NaN, infinite or huge numbers.
    """
    if share is Share.BOTH:
        return from_bytes(data)
    matrices, base_id = matrices_from_bytes(data)
    ending = f".{_KEYS[share]}.weight"
    layers = {}
    for key, matrix in matrices.items():
        name = key.removesuffix(ending)
        if name == key:
            raise AdapterFormatError(f"Tensor {key[:200]!r} is not what this round asks for: keys end in {ending!r}.")
        if name not in start.layers:
            raise AdapterMismatch(f"The base model has no LoRA slot {name[:200]!r}: it fits another architecture.")
        layers[name] = _whole(name, matrix, start.layers[name], share)
    if missing := sorted(start.layers.keys() - layers.keys()):
        raise AdapterFormatError(f"The update lacks layer {missing[0]}: send every layer that was trained.")
    adapter = Adapter(layers, base_id)
    check_values(adapter)
    return adapter


def fit(adapter: Adapter, rank: int, share: Share) -> Adapter:
    """An adapter at a rank that a device can train.

    If both factors are trained, this is the nearest adapter of that rank, in the same gauge as far as `align` keeps it.
    If one is frozen and the same for all devices, its first rows are taken, so that it stays the same for all.
    """
    if adapter.rank <= rank:
        return adapter
    cut = {name: Factors(f.a[:rank], f.b[:, :rank], f.kernel) for name, f in adapter.layers.items()}
    rows = Adapter(cut, adapter.base_id)
    return align(truncate(adapter, rank)[0], rows) if share in (Share.BOTH, Share.A_ONLY) else rows


def remainder(adapter: Adapter, rank: int, share: Share) -> Adapter | None:
    """The part of an adapter that `fit` leaves out; None if it leaves out nothing."""
    fitted = fit(adapter, rank, share)
    if fitted is adapter:
        return None
    return truncate(concatenate([(adapter, 1.0), (fitted, -1.0)]), adapter.rank - rank)[0]


def frames(factors: Factors) -> tuple[Matrix, Matrix]:
    """Orthonormal Q_B (out, r) and Q_A (r, in) with B = Q_B R_B and A = R_A Q_A, the diagonals of R positive.

    They are unique as long as both factors have full rank, so that a device and its coordinator find the same.
    """
    q_b, r_b = np.linalg.qr(factors.b.astype(np.float64))
    q_a, r_a = np.linalg.qr(factors.a.astype(np.float64).T)
    return q_b * _signs(r_b), (q_a * _signs(r_a)).T


def core(factors: Factors, start: Factors) -> Matrix:
    """K (r, r) of the product, in the frames of `start`."""
    q_b, q_a = frames(start)
    return (q_b.T @ factors.b) @ (factors.a @ q_a.T)


def orthonormal(x: Adapter) -> Adapter:
    """The same products with orthonormal rows in A; B carries the singular values. Zero directions are dropped."""
    layers = {}
    for name, factors in truncate(x)[0].layers.items():
        q, r = np.linalg.qr(factors.a.astype(np.float64).T)
        layers[name] = Factors(np.ascontiguousarray(q.T), factors.b @ r.T, factors.kernel)
    return Adapter(layers, x.base_id, x.notes)


def _framed(factors: Factors) -> Factors:
    q_b, q_a = frames(factors)
    k = (q_b.T @ factors.b) @ (factors.a @ q_a.T)
    return Factors(q_a.astype(np.float32), (q_b @ k).astype(np.float32), factors.kernel)


def _part(factors: Factors, start: Factors, share: Share) -> Array:
    if share is Share.CORE:
        return core(factors, start)
    return factors.b if share is Share.B else factors.a


def _whole(name: str, matrix: Array, start: Factors, share: Share) -> Factors:
    shapes = {Share.B: start.b.shape, Share.CORE: (start.rank, start.rank)}
    wanted = shapes.get(share, start.a.shape)
    if matrix.shape != wanted:
        raise AdapterMismatch(f"Layer {name}: the update's matrix is {matrix.shape}, this round asks for {wanted}.")
    if share is Share.CORE:
        q_b, q_a = frames(start)
        return Factors(q_a, q_b @ matrix.astype(np.float64), start.kernel)
    if share is Share.B:
        return Factors(start.a, matrix, start.kernel)
    return Factors(matrix, start.b if share is Share.A else np.zeros_like(start.b), start.kernel)


def _signs(r: Matrix) -> Matrix:
    return np.where(np.diag(r) < 0, -1.0, 1.0)
