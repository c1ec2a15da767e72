"""Hybrids that compare every adapter's prediction with the base model's, and combine the differences.

All three run the UNet once without a prompt and k + 1 times with it, for k adapters: 2 + k runs instead of merge's 2.
The prediction without a prompt is the base model's, as in LoRAtorio's guidance: an adapter has seen few pictures, and
its own prediction would be their mean. With

    d_i = w_i (e_i(x, prompt) - e_0(x, prompt)),    e_0 of the base model, e_i with adapter i alone at weight 1,

the prompted prediction is e_0(x, prompt) plus

- steer: the sum of all d_i (as concepts are added in Liu et al., arXiv 2206.01714);
- patches: in each patch, the sum of the d_i times their shares: the larger the angle between an adapter's prediction
  and the base model's, the larger its share (LoRAtorio, Foteinopoulou et al., arXiv 2508.11624);
- bands: the same by bands of frequency instead of patches, shares by energy (MultLFG, Roy et al., arXiv 2505.20525).

Chosen here: shares are in proportion to 1 - cosine or to the energy, which needs no temperature. Patches are 2 x 2
latents. Bands are those of Haar wavelets, one for each time that the sides can be halved, at most four. Shares add up
to the number of adapters: adapters that change everything alike are added up, as in `steer`, and a single adapter gives
the same in all three.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edge_sdk.inference.adapters.hybrids.base import Branch, Latents, Predictions, Step, Terms, active, guided
from edge_sdk.inference.adapters.hybrids.merge import merge
from edge_sdk.inference.adapters.mixing import to_feed
from edge_sdk.inference.bundle import Slot

Floats: TypeAlias = npt.NDArray[np.float32]
# (e_0, [d_1, ..., d_k]) -> the term that is added to the base model's prediction e_0.
Sum: TypeAlias = Callable[[Latents, Sequence[Latents]], Latents]
PATCH = 2
LEVELS = 4


def steer(terms: Terms, slots: Mapping[str, Slot], steps: range) -> Iterator[Step]:
    """Add up the changes that all adapters make to the base model's prediction. See the module."""
    return _compared(terms, slots, steps, everywhere)


def patches(terms: Terms, slots: Mapping[str, Slot], steps: range) -> Iterator[Step]:
    """Weigh the adapters' changes in each patch of the picture by their angle to the base model. See the module."""
    return _compared(terms, slots, steps, by_patches)


def bands(terms: Terms, slots: Mapping[str, Slot], steps: range) -> Iterator[Step]:
    """Weigh the adapters' changes in each band of frequencies by their energy. See the module."""
    return _compared(terms, slots, steps, by_bands)


def _compared(terms: Terms, slots: Mapping[str, Slot], steps: range, add_up: Sum) -> Iterator[Step]:
    taking_part = active(terms)
    if not taking_part:
        return merge(terms, slots, steps)
    weights = [np.float32(weight) for _, weight in taking_part]
    feeds = [to_feed([(adapter, 1.0)], slots) for adapter, _ in taking_part]
    branches = [Branch({}), *(Branch(feed, number, unprompted=False) for number, feed in enumerate(feeds, 1))]

    def combine(found: Predictions) -> Latents:
        base, *others = found.prompted
        changes = [weight * (other - base) for weight, other in zip(weights, others, strict=True)]
        return guided(base + add_up(base, changes), found)

    return repeat(Step(branches, combine), len(steps))


def everywhere(base: Latents, changes: Sequence[Latents]) -> Latents:
    """The sum of the changes (n, c, h, w)."""
    total: Latents = np.add.reduce(changes)
    return total


def by_patches(base: Latents, changes: Sequence[Latents]) -> Latents:
    """Sum of the changes (n, c, h, w), each times its share of every patch; shares add up to the number of changes."""
    height, width = base.shape[2:]
    angles = np.stack([1 - _cosines(base, base + change) for change in changes])
    whole = angles.repeat(PATCH, axis=3).repeat(PATCH, axis=4)[..., :height, :width]
    return _shared_out(whole, np.stack(changes))


def by_bands(base: Latents, changes: Sequence[Latents]) -> Latents:
    """Sum of the changes (n, c, h, w), each times its share of every band; shares add up to the number of changes."""
    split = [to_bands(change) for change in changes]
    joined: list[Latents] = []
    for parts in zip(*split, strict=True):
        energies = np.stack([np.square(part).sum(axis=(1, 2, 3), keepdims=True) for part in parts])
        joined.append(_shared_out(energies, np.stack(parts)))
    return from_bands(joined)


def _shared_out(sizes: Floats, changes: Floats) -> Latents:
    """Return sum_i share_i change_i, with shares in proportion to the sizes; equal shares where all sizes are 0."""
    total = sizes.sum(axis=0)
    even = np.float32(1 / len(sizes))
    shares = np.where(total > 0, sizes / np.where(total > 0, total, 1), even) * np.float32(len(sizes))
    found: Latents = (shares.astype(np.float32) * changes).sum(axis=0)
    return found


def _cosines(x: Latents, y: Latents) -> Floats:
    """Cosine between two predictions in every patch, (n, 1, h/p, w/p); patches at the end may be smaller."""
    products = [_patch_sums((a * b).sum(axis=1, keepdims=True)) for a, b in ((x, y), (x, x), (y, y))]
    lengths = np.sqrt(products[1] * products[2])
    cosines: Floats = np.where(lengths > 0, products[0] / np.where(lengths > 0, lengths, 1), 1)
    return np.minimum(np.maximum(cosines, -1), 1)


def _patch_sums(x: Floats) -> Floats:
    padded = np.pad(x, [(0, 0), (0, 0), *((0, -side % PATCH) for side in x.shape[2:])])
    n, c, h, w = padded.shape
    sums: Floats = padded.reshape(n, c, h // PATCH, PATCH, w // PATCH, PATCH).sum(axis=(3, 5))
    return sums


def to_bands(x: Latents) -> list[Latents]:
    """Orthonormal Haar wavelets: details (n, 3 c, h/2, w/2) of every level, finest first, then what remains."""
    found: list[Latents] = []
    while len(found) < LEVELS and x.shape[2] % 2 == 0 and x.shape[3] % 2 == 0:
        low, high = _halves(x, 3)
        (x, rows), (columns, both) = _halves(low, 2), _halves(high, 2)
        found.append(np.concatenate([rows, columns, both], axis=1))
    return [*found, x]


def from_bands(parts: Sequence[Latents]) -> Latents:
    """The latents with these bands: the inverse of `to_bands`."""
    *details, x = parts
    for detail in reversed(details):
        rows, columns, both = np.split(detail, 3, axis=1)
        x = _whole(_whole(x, rows, 2), _whole(columns, both, 2), 3)
    return x


def _halves(x: Floats, axis: int) -> tuple[Floats, Floats]:
    """Sums and differences of neighbours along an axis, over the square root of two."""
    even, odd = (np.take(x, range(begin, x.shape[axis], 2), axis) for begin in (0, 1))
    half = np.float32(0.5**0.5)
    return (even + odd) * half, (even - odd) * half


def _whole(low: Floats, high: Floats, axis: int) -> Floats:
    """The inverse of `_halves`."""
    half = np.float32(0.5**0.5)
    pairs = np.stack([(low + high) * half, (low - high) * half], axis=axis + 1)
    shape = list(low.shape)
    shape[axis] *= 2
    return pairs.reshape(shape)
