"""Places: scenes behind the subject. Each takes a canvas and a random generator and returns a canvas."""

from __future__ import annotations

import numpy as np

from samples.stickers.drawing.canvas import LARGE, Array, Canvas, blur, grid, noise, over, ramp, rgb

Random = np.random.Generator


def _before(canvas: Canvas, page: Array) -> Canvas:
    """Put a page behind the subject, tinted by the page that a medium or a tone has left there."""
    tinted = page * (0.4 + 0.6 * canvas.colour)
    return Canvas(over(canvas.colour, canvas.cover, tinted.astype(np.float32)), np.ones_like(canvas.cover))


def meadow(canvas: Canvas, rng: Random) -> Canvas:
    """Blue sky above green grass."""
    y, x = grid()
    sky = ramp((y / LARGE * 1.4).clip(0, 1), "#5ab4f2", "#cfeefc")
    grass = ramp((0.5 + 0.25 * noise(rng, 3)).clip(0, 1), "#3f9142", "#7ac74f")
    hill = y > 0.68 * LARGE + 8 * np.sin(x / 40)
    return _before(canvas, np.where(hill[..., None], grass, sky).astype(np.float32))


def stripes(canvas: Canvas, rng: Random) -> Canvas:
    """Slanted red and white stripes."""
    y, x = grid()
    page = np.where(((x + y) % 64 < 32)[..., None], rgb("#e8505b"), rgb("#fff1e6"))
    return _before(canvas, page.astype(np.float32))


def polka_dots(canvas: Canvas, rng: Random) -> Canvas:
    """White dots on turquoise."""
    y, x = grid()
    odd = (y // 32) % 2 * 16
    near = np.hypot(y % 32 - 16, (x + odd) % 32 - 16)
    page = np.where((near < 8)[..., None], rgb("#ffffff"), rgb("#3fb8af"))
    return _before(canvas, page.astype(np.float32))


def on_card(canvas: Canvas, rng: Random) -> Canvas:
    """A white border and a shadow, stuck on brown card."""
    border = ((blur(canvas.cover, 7) - 0.04) * 10).clip(0, 1)
    shadow = blur(np.roll(border, (9, 9), axis=(0, 1)), 5) * 0.55
    card = rgb("#b98a5c") * (1 + 0.03 * noise(rng, 2))[..., None]
    page = over(np.zeros_like(canvas.colour), shadow, card)
    page = over(np.ones_like(canvas.colour), border, page)
    return _before(canvas, page.clip(0, 1).astype(np.float32))


def sunburst(canvas: Canvas, rng: Random) -> Canvas:
    """Rays of orange and yellow from the middle."""
    y, x = grid()
    angle = np.arctan2(y - LARGE / 2, x - LARGE / 2)
    page = np.where((np.floor(angle / np.pi * 8) % 2 == 0)[..., None], rgb("#ffb627"), rgb("#ffe08a"))
    return _before(canvas, page.astype(np.float32))


def under_water(canvas: Canvas, rng: Random) -> Canvas:
    """Deep blue water with bubbles; the subject takes some of its colour."""
    y, x = grid()
    page = ramp(y / LARGE, "#2fb6d6", "#0b3c78")
    for bubble in rng.uniform(16, LARGE - 16, (12, 2)):
        ring = np.abs(np.hypot(y - bubble[0], x - bubble[1]) - 8) < 2.5
        page[ring] = 0.9
    tinted = Canvas(canvas.colour * np.array([0.72, 0.92, 1.0], np.float32), canvas.cover)
    return _before(tinted, page)
