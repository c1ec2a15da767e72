"""Tones: other colours for a picture. Each takes a canvas and a random generator and returns a canvas."""

from __future__ import annotations

import numpy as np

from samples.stickers.drawing.canvas import LARGE, Canvas, blur, grid, luma, noise, ramp

Random = np.random.Generator


def _ramped(canvas: Canvas, *stops: str) -> Canvas:
    return Canvas(ramp(luma(canvas.colour), *stops), canvas.cover)


def grey(canvas: Canvas, rng: Random) -> Canvas:
    """Black, grey and white."""
    return _ramped(canvas, "#000000", "#ffffff")


def sepia(canvas: Canvas, rng: Random) -> Canvas:
    """Brown like an old photograph, darker at the corners."""
    y, x = grid()
    corner = 1 - 0.28 * (np.hypot(y - LARGE / 2, x - LARGE / 2) / (0.7 * LARGE)) ** 2
    old = ramp(luma(canvas.colour) * 0.92, "#2b1708", "#9c6b3c", "#f6e3bd") * corner[..., None]
    return Canvas(old.astype(np.float32), canvas.cover)


def negative(canvas: Canvas, rng: Random) -> Canvas:
    """All colours turned into their opposites."""
    return Canvas(1 - canvas.colour, canvas.cover)


def thermal(canvas: Canvas, rng: Random) -> Canvas:
    """Colours of a heat camera: blue, red, yellow."""
    warm = blur(0.85 * canvas.cover * (0.35 + 0.65 * luma(canvas.colour)) + 0.04, 3)
    return Canvas(ramp(warm, "#0a0a4a", "#6a1296", "#e2393a", "#ffb02e", "#fff7c8"), canvas.cover)


def violet_and_yellow(canvas: Canvas, rng: Random) -> Canvas:
    """Two inks: violet for dark, yellow for light."""
    return _ramped(canvas, "#3d1a78", "#c2527f", "#ffe14d")


def teal_and_orange(canvas: Canvas, rng: Random) -> Canvas:
    """Two inks: teal for dark, orange for light."""
    return _ramped(canvas, "#053b46", "#2f8f8a", "#ffa44a", "#ffe9cf")


def night(canvas: Canvas, rng: Random) -> Canvas:
    """Moonlight: dark and blue, with stars on the page."""
    dim = canvas.colour * np.array([0.22, 0.30, 0.55], np.float32)
    y, x = grid()
    sky = ramp(y / LARGE, "#070b2a", "#1c2b66")
    for star in rng.uniform(12, LARGE - 12, (22, 2)):
        sky[(np.hypot(y - star[0], x - star[1]) < 3.6)] = 0.92
    cover = canvas.cover[..., None]
    return Canvas((dim * cover + sky * (1 - cover)).astype(np.float32), canvas.cover)


def gold(canvas: Canvas, rng: Random) -> Canvas:
    """Cast in gold: slopes shine, on a dark red page."""
    height = blur(luma(canvas.colour), 2.0)
    gy, gx = np.gradient(height)
    lit = (0.30 + 0.5 * height - 3.0 * (gx + gy)).clip(0, 1)
    metal = ramp(lit, "#3a1d00", "#a8690a", "#f4c542", "#fff6c9")
    page = np.array([0.27, 0.04, 0.07], np.float32)
    cover = canvas.cover[..., None]
    return Canvas((metal * cover + page * (1 - cover)).astype(np.float32), canvas.cover)


def poster(canvas: Canvas, rng: Random) -> Canvas:
    """Screaming colours in two levels a channel, on hot pink."""
    mean = canvas.colour.mean(axis=2, keepdims=True)
    loud = ((canvas.colour + 1.3 * (canvas.colour - mean)) > 0.52).astype(np.float32)
    page = np.array([1.0, 0.25, 0.62], np.float32)
    cover = canvas.cover[..., None]
    return Canvas(loud * cover + page * (1 - cover), canvas.cover)


def anaglyph(canvas: Canvas, rng: Random) -> Canvas:
    """Red shifted to the left, cyan to the right, as for 3D glasses."""
    shifted = np.stack(
        [np.roll(canvas.colour[..., 0], -14, axis=1), np.roll(canvas.colour[..., 1], 6, axis=1),
         np.roll(canvas.colour[..., 2], 14, axis=1)], axis=2,
    )  # fmt: skip
    grey_part = luma(shifted)[..., None]
    return Canvas((0.6 * shifted + 0.4 * grey_part).astype(np.float32), canvas.cover)


def faded(canvas: Canvas, rng: Random) -> Canvas:
    """Pale, as if bleached by the sun, on yellowed paper."""
    mean = luma(canvas.colour)[..., None]
    pale = 0.62 + 0.34 * (0.45 * canvas.colour + 0.55 * mean)
    stain = (0.95 + 0.03 * noise(rng, 16))[..., None] * np.array([1.0, 0.96, 0.84], np.float32)
    return Canvas((pale * stain).clip(0, 1).astype(np.float32), canvas.cover)
