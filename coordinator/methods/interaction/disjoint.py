"""Clusters in disjoint subspaces: the A of each is a block of rows of one orthonormal basis, and stays frozen.

    A_j A_l^T = 0  for clusters j and l,    so  <B_j A_j, B_l A_l> = tr(B_j^T B_l A_l A_j^T) = 0

This holds whatever the devices learn: adapters of several clusters can be added up for a hybrid style without
overwriting each other, as Orthogonal Adaptation does for concepts (Po et al., arXiv 2312.02432). Devices train B alone,
so that the mean of B gives the exact mean of the products. The price is that of `ffa`: training is confined to these
rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from coordinator.methods.interaction.none import Alone
from edge_sdk.adapter import Adapter, Factors, Shape, initial_factors
from edge_sdk.errors import ConfigurationError


class Disjoint(Alone, frozen=True, kw_only=True):
    """Frozen blocks A_j of one orthonormal basis: A_j A_l^T = 0, so that cluster adapters are orthogonal.

    Source: Orthogonal Adaptation (Po et al., arXiv 2312.02432), here for clusters instead of concepts.
    """

    frozen_a: ClassVar[bool] = True
    method: str = "disjoint"

    def begin(
        self, new: Sequence[int], known: Mapping[int, Adapter], slots: Mapping[str, Shape], rank: int, seed: int
    ) -> dict[int, Adapter]:
        """Return adapters with free blocks of the basis as A, and B = 0.

        Raises:
            ConfigurationError: the basis has too few blocks of this rank.
        """
        room = min(shape.in_features for shape in slots.values()) // rank
        taken = {_number_of(adapter, slots, rank, seed, room) for adapter in known.values()}
        free = [number for number in range(room) if number not in taken]
        if len(free) < len(new):
            raise ConfigurationError(
                f"The interaction 'disjoint' has room for {room} clusters of rank {rank} in this base model, and "
                f"{len(known) + len(new)} are wanted: set clusters = {room} under [clustering], or lower rank."
            )
        return {
            cluster: Adapter({name: _block(name, shape, rank, seed, number) for name, shape in slots.items()})
            for cluster, number in zip(new, free, strict=False)
        }


def _number_of(adapter: Adapter, slots: Mapping[str, Shape], rank: int, seed: int, room: int) -> int | None:
    """Return the number of a cluster's block; None if it has none, as after another interaction."""
    name, shape = next(iter(slots.items()))
    for number in range(room):
        if np.allclose(adapter.layers[name].a, _rows(name, shape, rank, seed, number), atol=1e-5):
            return number
    return None


def _block(name: str, shape: Shape, rank: int, seed: int, number: int) -> Factors:
    rows = _rows(name, shape, rank, seed, number).astype(np.float32)
    return Factors(rows, np.zeros((shape.out_features, rank), np.float32), shape.kernel)


def _rows(name: str, shape: Shape, rank: int, seed: int, number: int) -> npt.NDArray[np.float64]:
    """Return a block of the layer's basis, scaled to the mean length of an initial A's rows.

    Learning rates are made for that length.
    """
    # The first rows are the same, however many are drawn.
    drawn = initial_factors(name, shape, rank * (number + 1), seed).a.astype(np.float64)
    q, r = np.linalg.qr(drawn.T)
    basis = (q * np.where(np.diag(r) < 0, -1.0, 1.0)).T
    rows: npt.NDArray[np.float64] = basis[-rank:] / np.sqrt(3.0)
    return rows
