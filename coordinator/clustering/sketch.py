"""A short signature of the subspaces that an adapter writes into, whose inner products stand for principal angles.

`basis_similarity` is the mean over the layers of <P, Q>, with P = U U^T / ||U U^T||_F the projector of a device's basis
U in that layer. With fixed random signs g, h, the number g^T P h = (U^T g)^T (U^T h) / sqrt(p) keeps inner products in
expectation: E[(g^T P h)(g^T Q h)] = tr(P Q^T). A signature has many such numbers a layer, of independent pairs g, h
drawn by the layer's name. No projector is ever formed, and no other device is needed: the bases can be read one device
at a time. The error of an inner product is about 1 / sqrt(length).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from edge_sdk.adapter.algebra import Bases

Signatures = npt.NDArray[np.float32]
MOST_NUMBERS = 16384  # in a signature: an error of 0.008
MOST_IN_ALL = 40_000_000  # of all devices: 160 MB
_LEAST_PER_LAYER = 4


def signatures(devices: Iterable[Bases], length: int) -> Signatures:
    """(devices, about `length`): reads the bases of one device at a time.

    As many numbers a layer as makes `length` with the first device's layers. Layers that are missing or zero are zeros;
    a device's layers all count the same.
    """
    pairs: dict[str, tuple[Signatures, Signatures]] = {}
    columns: dict[str, int] = {}
    rows: list[dict[str, Signatures]] = []
    per_layer = 0
    for bases in devices:
        layers = {name: basis for name, basis in bases.items() if basis.shape[1]}
        per_layer = per_layer or (max(_LEAST_PER_LAYER, length // len(layers)) if layers else 0)
        row = {}
        for name, basis in layers.items():
            if name not in pairs:
                pairs[name] = _signs(name, basis.shape[0], per_layer)
                columns[name] = len(columns)
            left, right = pairs[name]
            u = basis.astype(np.float32)
            row[name] = ((left @ u) * (right @ u)).sum(axis=1) / np.float32(np.sqrt(u.shape[1] * len(layers)))
        rows.append(row)
    found = np.zeros((len(rows), len(columns), per_layer), np.float32)
    for at, row in enumerate(rows):
        for name, numbers in row.items():
            found[at, columns[name]] = numbers
    return found.reshape(len(rows), len(columns) * per_layer)


def length_for(devices: int) -> int:
    """How many numbers a signature has among so many devices."""
    return min(MOST_NUMBERS, MOST_IN_ALL // max(1, devices))


def _signs(layer: str, outputs: int, count: int) -> tuple[Signatures, Signatures]:
    """`count` pairs (g, h), each matrix (count, outputs), scaled so that `count` products sum to one inner product."""
    rng = np.random.default_rng(zlib.crc32(layer.encode()))
    signs = rng.choice(np.array([-1, 1], np.float32), (2, count, outputs))
    return signs[0] / np.float32(np.sqrt(count)), signs[1]
