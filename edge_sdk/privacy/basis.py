"""The public basis: few directions of a text encoder's space that all devices of a federation reduce their codes to.

It is made of public captions alone, once, at the export of the bundle: their mean, the leading principal components of
their embeddings, and a radius. Fewer directions than captions in a code are what keeps captions from being found again
(docs/benchmarks/privacy.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import safetensors
from safetensors.numpy import load_file, save

from edge_sdk import durable
from edge_sdk.errors import BundleCorrupt, BundleMissing, ConfigurationError

Matrix: TypeAlias = npt.NDArray[np.float64]
DIMENSIONS = 16
FEWEST_PUBLIC = 64
"""Fewest different public captions: four for each dimension."""
_CLOSE = 1e-3


@dataclass(frozen=True)
class Basis:
    """A public basis of a text encoder's space.

    Attributes:
        id: SHA-256 in hex of its sources, see `basis_id`.
        mean: (dim,) mean of the public captions' unit embeddings.
        axes: (DIMENSIONS, dim) their leading principal components, of unit length, orthogonal to each other.
        radius: largest length of a code: the median length of the public captions in these directions. The mean of a
            device's captions is shorter, unless they are all alike.
    """

    id: str
    mean: Matrix
    axes: Matrix
    radius: float

    def place(self, vector: Matrix) -> Matrix:
        """Return the place (DIMENSIONS,) of a vector (dim,), or those of several, in units of the radius."""
        place: Matrix = (vector - self.mean) @ self.axes.T / self.radius
        return place


def make_basis(embeddings: npt.NDArray[np.floating], id: str) -> Basis:
    """Return the basis of public captions; the same embeddings give the same signs of its axes.

    Args:
        embeddings: (captions, dim), at unit length.
        id: the basis's id.

    Raises:
        ConfigurationError: the captions are too few, or too much alike for so many directions.
    """
    rows = np.asarray(embeddings, dtype=np.float64)
    if len(rows) < FEWEST_PUBLIC:
        raise ConfigurationError(
            f"{len(rows)} different public captions are too few for a basis: give at least {FEWEST_PUBLIC}, better "
            "500, of the kind that people write."
        )
    mean = rows.mean(axis=0)
    _, lengths, directions = np.linalg.svd(rows - mean, full_matrices=False)
    if np.count_nonzero(lengths > 1e-6 * max(1.0, lengths[0])) < DIMENSIONS:
        raise ConfigurationError(
            f"The public captions differ in fewer than {DIMENSIONS} directions: give captions that are less alike."
        )
    axes = directions[:DIMENSIONS]
    largest = axes[np.arange(DIMENSIONS), np.abs(axes).argmax(axis=1)]
    axes = axes * np.sign(largest)[:, None]
    radius = float(np.median(np.linalg.norm((rows - mean) @ axes.T, axis=1)))
    return Basis(id, mean, axes, radius)


def basis_id(encoder: str, captions: Sequence[str]) -> str:
    """Return the id of a basis by its sources: equal ones give the same directions on every machine, but for rounding.

    Args:
        encoder: identity of the text encoder.
        captions: the public captions.
    """
    sources = ["impasto basis 1", encoder, DIMENSIONS, list(captions)]
    return hashlib.sha256(msgspec.msgpack.encode(sources)).hexdigest()


def save_basis(basis: Basis, path: Path) -> None:
    """Write a basis as safetensors: mean, axes and radius in float32."""
    tensors = {"mean": basis.mean, "axes": basis.axes, "radius": np.array([basis.radius])}
    # By `durable`, as the library's own writer makes files that nobody else can read.
    durable.write(path, save({name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}))


def load_basis(path: Path, id: str) -> Basis:
    """Read a basis.

    Args:
        path: its file.
        id: its id, as the bundle's index states it.

    Raises:
        BundleMissing: there is no such file.
        BundleCorrupt: it is no basis.
    """
    try:
        tensors = load_file(path)
        mean, axes, radius = (tensors[name].astype(np.float64) for name in ("mean", "axes", "radius"))
    except FileNotFoundError as error:
        raise BundleMissing(f"{path} is missing: export or copy the bundle again.") from error
    except (OSError, safetensors.SafetensorError, KeyError, ValueError) as error:
        raise BundleCorrupt(f"{path} cannot be read ({str(error)[:300]}): export or copy the bundle again.") from error
    sound = (
        mean.ndim == 1
        and axes.shape == (DIMENSIONS, len(mean))
        and radius.shape == (1,)
        and all(np.isfinite(tensor).all() for tensor in (mean, axes, radius))
        and radius[0] > 0
        and np.allclose(axes @ axes.T, np.eye(DIMENSIONS), atol=_CLOSE)
    )
    if not sound:
        raise BundleCorrupt(f"{path} is no basis of {DIMENSIONS} directions: export or copy the bundle again.")
    return Basis(id, mean, axes, float(radius[0]))
