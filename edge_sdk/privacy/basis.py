"""The public basis: few directions of a text encoder's space that all devices of a federation reduce their codes to.

It is made of public captions alone, once, at the export of the bundle: their mean, directions, and a radius. The
directions are those in which captions of different styles differ most, compared with captions of one style that differ
in their subjects: linear discriminants (Fisher 1936, Rao 1948). Codes show what is compared, and little else. Fewer
directions than captions in a code keep captions from being found again (docs/benchmarks/privacy.md).
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
FEWEST_STYLES = 2 * DIMENSIONS
"""Fewest styles of public captions."""
# Least weight of the sphere in the scatter of subjects, so that no direction has none.
_LEAST_SHRINKAGE = 1e-4


@dataclass(frozen=True)
class Basis:
    """A public basis of a text encoder's space.

    Attributes:
        id: SHA-256 in hex of its sources, see `basis_id`.
        mean: (dim,) mean of the public captions' unit embeddings.
        axes: (DIMENSIONS, dim) directions that tell styles apart, the best first; along each, captions of one style
            scatter by 1.
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


def make_basis(embeddings: Sequence[npt.NDArray[np.floating]], id: str) -> Basis:
    """Return the basis of public captions; the same embeddings give the same signs of its axes.

    Args:
        embeddings: (captions, dim) for each style, at unit length.
        id: the basis's id.

    Raises:
        ConfigurationError: the styles are too few, a style has a single caption, or the captions are too much alike.
    """
    styles = [np.asarray(rows, dtype=np.float64) for rows in embeddings]
    if len(styles) < FEWEST_STYLES or min(map(len, styles)) < 2:
        raise ConfigurationError(
            f"A basis needs public captions of at least {FEWEST_STYLES} styles, at least two of each: give 200 styles, "
            "eight captions of each with different subjects, of the kind that people write."
        )
    rows = np.concatenate(styles)
    mean = rows.mean(axis=0)
    centres = np.array([style.mean(axis=0) for style in styles])
    subjects = np.concatenate([style - centre for style, centre in zip(styles, centres, strict=True)])
    subjects *= np.sqrt(len(rows) / (len(rows) - len(styles)))  # the centres are of the same captions
    alike = f"The public captions differ in fewer than {DIMENSIONS} directions: give captions that are less alike."
    if not (subjects**2).mean() > 1e-12:
        raise ConfigurationError(alike)
    lower = np.linalg.cholesky(_scatter(subjects))
    _, lengths, directions = np.linalg.svd(np.linalg.solve(lower, (centres - mean).T).T, full_matrices=False)
    if np.count_nonzero(lengths > 1e-6 * max(1.0, lengths[0])) < DIMENSIONS:
        raise ConfigurationError(alike)
    axes = np.linalg.solve(lower.T, directions[:DIMENSIONS].T).T
    largest = axes[np.arange(DIMENSIONS), np.abs(axes).argmax(axis=1)]
    axes = axes * np.sign(largest)[:, None]
    radius = float(np.median(np.linalg.norm((rows - mean) @ axes.T, axis=1)))
    return Basis(id, mean, axes, radius)


def basis_id(encoder: str, captions: Sequence[Sequence[str]]) -> str:
    """Return the id of a basis by its sources: equal ones give the same directions on every machine, but for rounding.

    Args:
        encoder: identity of the text encoder.
        captions: the public captions of each style.
    """
    sources = ["impasto basis 1", encoder, DIMENSIONS, [list(style) for style in captions]]
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
        and np.linalg.matrix_rank(axes) == DIMENSIONS
    )
    if not sound:
        raise BundleCorrupt(f"{path} is no basis of {DIMENSIONS} directions: export or copy the bundle again.")
    return Basis(id, mean, axes, float(radius[0]))


def _scatter(rows: Matrix) -> Matrix:
    """Return the covariance (dim, dim) of centred rows (n, dim), shrunk towards a sphere (Ledoit and Wolf 2004)."""
    count, dim = rows.shape
    found = rows.T @ rows / count
    sphere = np.trace(found) / dim * np.eye(dim)
    away = ((found - sphere) ** 2).sum()
    error = (((rows**2).sum(axis=1) ** 2).mean() - (found**2).sum()) / count
    share = max(_LEAST_SHRINKAGE, min(1.0, error / away) if away > 0 else 0.0)
    shrunk: Matrix = (1 - share) * found + share * sphere
    return shrunk
