"""Parts that the drawn styles share: a rendering of a subject, and small operations on pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

Array = npt.NDArray[np.float32]

SIZE = 64
# Renderings are this many times larger than the final pictures.
SCALE = 4
LARGE = SIZE * SCALE
# Weights of red, green and blue in a colour's brightness (Rec. 601).
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Canvas:
    """A picture in the making.

    colour: (256, 256, 3) in 0..1; cover: (256, 256) in 0..1, 1 on the subject. Colour outside of it is the page.
    """

    colour: Array
    cover: Array

    @classmethod
    def of(cls, drawing: Image.Image) -> Canvas:
        """From an RGBA rendering of 256 x 256; the page is white."""
        rgba = np.asarray(drawing.convert("RGBA"), np.float32) / 255
        cover = rgba[..., 3]
        return cls(over(rgba[..., :3], cover, np.ones(3, np.float32)), cover)

    def picture(self) -> npt.NDArray[np.uint8]:
        """(64, 64, 3) uint8: the mean of each 4 x 4 block."""
        blocks = self.colour.reshape(SIZE, SCALE, SIZE, SCALE, 3).mean(axis=(1, 3))
        pixels: npt.NDArray[np.uint8] = (blocks.clip(0, 1) * 255).round().astype(np.uint8)
        return pixels


def over(colour: Array, cover: Array, page: Array) -> Array:
    """`colour` where `cover` is 1, `page` where it is 0."""
    mixed: Array = colour * cover[..., None] + page * (1 - cover[..., None])
    return mixed


def luma(colour: Array) -> Array:
    """Brightness, (256, 256)."""
    brightness: Array = colour @ LUMA
    return brightness


def blur(array: Array, sigma: float) -> Array:
    """Gaussian blur of a plane or of every channel; the edge repeats."""
    sigmas = (sigma, sigma) if array.ndim == 2 else (sigma, sigma, 0)
    soft: Array = ndimage.gaussian_filter(array, sigmas, mode="nearest", truncate=3)
    return soft


def edges(canvas: Canvas, sigma: float = 1.5) -> Array:
    """Strength of outlines, 0..1: the largest gradient of the three channels and of the cover."""
    planes = [*np.moveaxis(canvas.colour, 2, 0), canvas.cover]
    strength = np.max([ndimage.gaussian_gradient_magnitude(plane, sigma, mode="nearest") for plane in planes], axis=0)
    found: Array = (strength * (6 * sigma)).clip(0, 1).astype(np.float32)
    return found


def ramp(brightness: Array, *stops: str) -> Array:
    """Map brightness 0..1 to colours: evenly spaced stops such as "#102040"."""
    points = np.linspace(0, 1, len(stops))
    colours = np.array([rgb(stop) for stop in stops])
    mapped: Array = np.stack([np.interp(brightness, points, colours[:, c]) for c in range(3)], axis=2).astype(
        np.float32
    )
    return mapped


def rgb(code: str) -> Array:
    """ "#ff8000" -> (1, .5, 0)."""
    colour: Array = np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)], np.float32) / 255
    return colour


def cells(array: Array, side: int) -> Array:
    """Every square cell of `side` large pixels, replaced by its mean."""
    height, width = array.shape[0] // side, array.shape[1] // side
    means = array.reshape(height, side, width, side, -1).mean(axis=(1, 3))
    large: Array = means.repeat(side, axis=0).repeat(side, axis=1).reshape(array.shape)
    return large


def noise(rng: np.random.Generator, sigma: float) -> Array:
    """Smooth noise of unit variance, (256, 256)."""
    plane = blur(rng.standard_normal((LARGE, LARGE)).astype(np.float32), sigma)
    unit: Array = plane / plane.std()
    return unit


def grid() -> tuple[Array, Array]:
    """Row and column of each large pixel."""
    y, x = np.mgrid[:LARGE, :LARGE].astype(np.float32)
    return y, x
