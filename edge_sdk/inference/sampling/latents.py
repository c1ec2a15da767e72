"""Latents: the noise that a drawing starts from, pictures as latents, latents as pictures."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from edge_sdk.errors import DrawingError
from edge_sdk.inference.sampling.schedulers import Latents
from edge_sdk.pictures import fit, to_rgb

# Neighbouring tiles overlap by a fourth of a side, and are blended there.
_OVERLAP = 4


class Noise:
    """Unit noise, with an independent stream for each picture.

    seeds: one for all pictures (picture i draws from (seed, i)), one for each, or None for a random one.
    """

    def __init__(self, seeds: int | Sequence[int] | None, count: int, shape: tuple[int, int, int]) -> None:
        if isinstance(seeds, Sequence):
            if len(seeds) != count:
                raise ValueError(
                    f"There are {count} pictures and {len(seeds)} seeds: give one for each, or one for all."
                )
            entropies = [[_checked(seed), 0] for seed in seeds]
        else:
            entropy = secrets.randbits(64) if seeds is None else _checked(seeds)
            entropies = [[entropy, picture] for picture in range(count)]
        self._streams = [np.random.default_rng(entropy) for entropy in entropies]
        self._shape = shape

    def __call__(self) -> Latents:
        """The next noise, (n, c, h, w)."""
        return np.stack([stream.standard_normal(self._shape, np.float32) for stream in self._streams])


def to_pixels(picture: Image.Image, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Pixels (1, 3, height, width) in -1..1 for the autoencoder: the picture's central part of these proportions.

    size: width and height in pixels.

    Raises:
        PictureError: see `edge_sdk.pictures.to_rgb`.
    """
    pixels = np.asarray(fit(to_rgb(picture), size), np.float32)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None] / 127.5 - 1)


def to_pictures(pixels: npt.NDArray[np.float32]) -> list[Image.Image]:
    """Pictures of the decoder's pixels (n, 3, height, width) in -1..1.

    Raises:
        DrawingError: the pixels are not finite.
    """
    if not np.isfinite(pixels).all():
        raise DrawingError("The drawing diverged: use smaller adapter weights, less guidance or more steps.")
    rounded = ((pixels / 2 + 0.5).clip(0, 1) * 255).round().astype(np.uint8)
    return [Image.fromarray(picture) for picture in rounded.transpose(0, 2, 3, 1)]


def decode_in_tiles(
    decode: Callable[[Latents], npt.NDArray[np.float32]], latents: Latents, tile: int, factor: int
) -> npt.NDArray[np.float32]:
    """Decode square tiles one by one and blend their overlaps: this takes the memory of one tile, not of all.

    Args:
        decode: latents (n, c, h, w) -> pixels (n, 3, factor h, factor w).
        latents: (n, c, h, w).
        tile: side of a tile, in latents.
        factor: pixels per latent, along one side.
    """
    n, _, tall, wide = latents.shape
    total = np.zeros((n, 3, factor * tall, factor * wide), np.float32)
    weights = np.zeros((factor * tall, factor * wide), np.float32)
    for top, height in _spans(tall, tile):
        for left, width in _spans(wide, tile):
            pixels = decode(np.ascontiguousarray(latents[:, :, top : top + height, left : left + width]))
            weight = np.outer(_ramp(top, height, tall, factor), _ramp(left, width, wide, factor))
            area = (slice(factor * top, factor * (top + height)), slice(factor * left, factor * (left + width)))
            total[:, :, area[0], area[1]] += pixels * weight
            weights[area] += weight
    total /= weights
    return total


def _spans(length: int, tile: int) -> Iterator[tuple[int, int]]:
    """Yield (begin, length) of the tiles that cover a side, spread as evenly as possible."""
    if length <= tile:
        yield 0, length
        return
    overlap = max(1, tile // _OVERLAP)
    count = -(-(length - overlap) // (tile - overlap))
    for begin in np.linspace(0, length - tile, count).round().astype(int).tolist():
        yield begin, tile


def _ramp(begin: int, length: int, whole: int, factor: int) -> npt.NDArray[np.float32]:
    """Weights along a side of a tile: rising from an inner edge, falling to one, and 1 at the picture's own edges."""
    pixels = factor * length
    edge = max(1, pixels // _OVERLAP)
    rise = (np.arange(pixels) + 0.5) / edge
    up = np.ones(pixels) if begin == 0 else rise.clip(0, 1)
    down = np.ones(pixels) if begin + length == whole else rise[::-1].clip(0, 1)
    ramp: npt.NDArray[np.float32] = np.minimum(up, down).astype(np.float32)
    return ramp


def _checked(seed: int) -> int:
    if seed < 0:
        raise ValueError(f"A seed is not negative, and this one is {seed}.")
    return seed
