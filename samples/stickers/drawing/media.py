"""Media: ways to draw a subject. Each takes a canvas and a random generator and returns a canvas."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage, spatial

from samples.stickers.drawing.canvas import LARGE, Array, Canvas, blur, cells, edges, grid, luma, noise, over, ramp, rgb

WHITE = np.ones(3, np.float32)
Random = np.random.Generator


def _means(colour: Array, labels: npt.NDArray[np.intp], count: int) -> Array:
    """Mean colour of each of `count` labels, (count, 3); black where a label has no pixel."""
    sizes = np.bincount(labels.ravel(), minlength=count).clip(1)
    sums = [np.bincount(labels.ravel(), colour[..., c].ravel(), count) for c in range(3)]
    means: Array = (np.stack(sums, axis=1) / sizes[:, None]).astype(np.float32)
    return means


def _flat(canvas: Canvas, colour: str) -> Array:
    return np.broadcast_to(rgb(colour), canvas.colour.shape).copy()


def line_art(canvas: Canvas, rng: Random) -> Canvas:
    """Thin black outlines on white."""
    ink = ((edges(canvas, 2.0) - 0.25) * 4).clip(0, 1)
    return Canvas(over(_flat(canvas, "#101010"), ink, WHITE), canvas.cover)


def pencil(canvas: Canvas, rng: Random) -> Canvas:
    """Grey strokes: slanted hatching in dark places, soft outlines."""
    y, x = grid()
    dark = (1 - luma(canvas.colour)) * canvas.cover
    hatch = 0.5 + 0.5 * np.sin((x + y) * 2 * np.pi / 16 + noise(rng, 12))
    shade = (dark * 0.9 * hatch + 0.8 * ((edges(canvas, 1.6) - 0.15) * 2).clip(0, 1)).clip(0, 0.85)
    return Canvas(over(_flat(canvas, "#3a3a40"), shade.astype(np.float32), rgb("#fbfaf6")), canvas.cover)


def pixel_art(canvas: Canvas, rng: Random) -> Canvas:
    """Squares of 4 x 4 pixels in few colours."""
    blocks = cells(canvas.colour, 16)
    few = (blocks * 5).round() / 5
    return Canvas(few.astype(np.float32), (cells(canvas.cover, 16) > 0.5).astype(np.float32))


def halftone(canvas: Canvas, rng: Random) -> Canvas:
    """Dots in cells of 4 x 4 pixels, larger in dark places, with a thin outline around the subject."""
    y, x = grid()
    darkness = cells(1 - luma(canvas.colour), 16)
    near = np.hypot(y % 16 - 7.5, x % 16 - 7.5)
    radius = 11.3 * np.sqrt(darkness.clip(0, 1))
    dots = ((radius - near) / 1.5 + 0.5).clip(0, 1)
    return Canvas(over(_flat(canvas, "#16161d"), dots.astype(np.float32), WHITE), canvas.cover)


def blueprint(canvas: Canvas, rng: Random) -> Canvas:
    """White lines on blue squared paper."""
    y, x = grid()
    lines = ((y % 32 < 3) | (x % 32 < 3)).astype(np.float32) * 0.18
    ink = np.maximum(lines, ((edges(canvas, 2.0) - 0.2) * 3).clip(0, 1))
    return Canvas(over(np.ones_like(canvas.colour), ink, rgb("#1b4f9c")), canvas.cover)


def neon(canvas: Canvas, rng: Random) -> Canvas:
    """Glowing tubes in the subject's colours on black."""
    tube = ((edges(canvas, 2.5) - 0.3) * 3).clip(0, 1)
    vivid = canvas.colour - canvas.colour.mean(axis=2, keepdims=True)
    vivid = (0.55 + 2.2 * blur(vivid, 4)).clip(0, 1)
    light = tube + 1.4 * blur(tube, 8)
    glow = vivid * light[..., None] + 0.5 * (tube**3)[..., None]
    return Canvas((rgb("#08060f") + glow).clip(0, 1).astype(np.float32), canvas.cover)


def watercolour(canvas: Canvas, rng: Random) -> Canvas:
    """Pale washes that bleed, darker at their rims, on white paper."""
    y, x = grid()
    shift = (np.stack([noise(rng, 10), noise(rng, 10)]) * 5).astype(np.float32)
    moved = np.stack(
        [ndimage.map_coordinates(plane, [y + shift[0], x + shift[1]], order=1, mode="nearest")
         for plane in (*np.moveaxis(canvas.colour, 2, 0), canvas.cover)], axis=2,
    )  # fmt: skip
    wash = blur(moved[..., :3], 5)
    cover = moved[..., 3]
    rim = (edges(Canvas(wash, blur(cover, 2)), 3.0) * 0.25)[..., None]
    tint = 1 - (1 - wash) * (0.62 + 0.12 * noise(rng, 14))[..., None]
    return Canvas((tint - rim).clip(0, 1).astype(np.float32), cover.astype(np.float32))


def mosaic(canvas: Canvas, rng: Random) -> Canvas:
    """Square tiles of 4 pixels that differ a little, grey joints."""
    side, count = 16, 16
    tiles = cells(canvas.colour, side) + rng.normal(0, 0.05, (count, count, 1)).repeat(side, 0).repeat(side, 1)
    y, x = grid()
    joint = (y % side < 3) | (x % side < 3)
    tiles[joint] = rgb("#5d5a58")
    return Canvas(tiles.clip(0, 1).astype(np.float32), canvas.cover)


def crayon(canvas: Canvas, rng: Random) -> Canvas:
    """Waxy strokes that leave the paper open."""
    grain = noise(rng, 1.5)
    strokes = ndimage.gaussian_filter(rng.standard_normal((LARGE * 2, LARGE * 2)).astype(np.float32), (1.5, 24))
    strokes = ndimage.rotate(strokes, 35, reshape=False, order=1)[LARGE // 2 : -LARGE // 2, LARGE // 2 : -LARGE // 2]
    wax = (0.75 + 0.8 * strokes / strokes.std() * 0.35 + 0.12 * grain).clip(0, 1) * blur(canvas.cover, 2)
    bold = (canvas.colour + 0.25 * (canvas.colour - canvas.colour.mean(axis=2, keepdims=True))).clip(0, 1)
    return Canvas(over(bold, wax.astype(np.float32), rgb("#fdf8ec")), canvas.cover)


def oil(canvas: Canvas, rng: Random) -> Canvas:
    """Thick dabs: each small neighbourhood takes one colour, lit from the side."""
    points = rng.uniform(-8, LARGE + 8, (1500, 2))
    y, x = grid()
    _, nearest = spatial.cKDTree(points).query(np.stack([y * 0.75 + x * 0.25, x], axis=2).reshape(-1, 2))
    labels = nearest.reshape(LARGE, LARGE)
    dabs = _means(canvas.colour, labels, len(points)) + rng.normal(0, 0.035, (len(points), 1))
    paint = blur(dabs[labels].astype(np.float32), 1.0)
    relief = ndimage.sobel(luma(paint), axis=0) + ndimage.sobel(luma(paint), axis=1)
    return Canvas((paint * 0.94 + 0.10 * relief[..., None]).clip(0, 1).astype(np.float32), canvas.cover)


def low_poly(canvas: Canvas, rng: Random) -> Canvas:
    """Triangles of one colour each, more of them near outlines."""
    weight = (edges(canvas, 3.0) + 0.03).ravel()
    chosen = rng.choice(weight.size, 200, replace=False, p=weight / weight.sum())
    border = [(a, b) for a in (0, 85, 170, 255) for b in (0, 85, 170, 255) if a in (0, 255) or b in (0, 255)]
    points = np.concatenate([np.stack([chosen // LARGE, chosen % LARGE], axis=1), border]).astype(np.float64)
    net = spatial.Delaunay(points)
    y, x = grid()
    labels = net.find_simplex(np.stack([y, x], axis=2).reshape(-1, 2)).reshape(LARGE, LARGE).clip(0)
    count = len(net.simplices)
    colours = _means(canvas.colour, labels, count) * (1 + rng.uniform(-0.10, 0.06, (count, 1)))
    cover = _means(canvas.cover[..., None].repeat(3, axis=2), labels, count)[labels, 0]
    return Canvas(colours[labels].clip(0, 1).astype(np.float32), (cover > 0.5).astype(np.float32))


def stained_glass(canvas: Canvas, rng: Random) -> Canvas:
    """Vivid panes with leads between them, on a page of pale blue panes."""
    points = rng.uniform(0, LARGE, (26, 2))
    y, x = grid()
    distance, _ = spatial.cKDTree(points).query(np.stack([y, x], axis=2).reshape(-1, 2), k=2)
    gap = (distance[:, 1] - distance[:, 0]).reshape(LARGE, LARGE)
    light = over((canvas.colour * 4).round() / 4, canvas.cover, rgb("#a9cfe8"))
    grey = light.mean(axis=2, keepdims=True)
    panes = (grey + 1.5 * (light - grey)).clip(0, 1) * (0.94 + 0.08 * noise(rng, 8))[..., None]
    rim = (edges(canvas, 2.5) > 0.75).astype(np.float32)
    lead = np.maximum((gap < 5).astype(np.float32), rim)
    return Canvas(
        over(_flat(canvas, "#17151c"), blur(lead, 0.8), panes.clip(0, 1).astype(np.float32)), np.ones_like(canvas.cover)
    )


def cross_stitch(canvas: Canvas, rng: Random) -> Canvas:
    """Crosses of thread, one for each 4 x 4 pixels, on linen."""
    y, x = grid()
    v, u = y % 16, x % 16
    cross = np.minimum(np.abs(u - v), np.abs(u + v - 15)) < 3.6
    thread = cells(canvas.colour, 16) * (0.9 + 0.12 * (np.abs(u - v) < 3.6)[..., None])
    there = (cells(canvas.cover, 16) > 0.4) & cross
    linen = 0.93 - 0.05 * ((y // 4 + x // 4) % 2)
    page = linen[..., None] * rgb("#fff4dc")
    return Canvas(np.where(there[..., None], thread, page).clip(0, 1).astype(np.float32), canvas.cover)


def chalk(canvas: Canvas, rng: Random) -> Canvas:
    """Dusty coloured outlines and light shading on a green board."""
    dust = (0.7 + 0.3 * noise(rng, 1.2)).clip(0, 1)
    ink = (((edges(canvas, 2.4) - 0.2) * 2.5).clip(0, 1) * 0.95 + 0.28 * canvas.cover) * dust
    pale = 0.55 + 0.45 * canvas.colour
    return Canvas(over(pale, ink.clip(0, 1).astype(np.float32), rgb("#24463a")), canvas.cover)


def engraving(canvas: Canvas, rng: Random) -> Canvas:
    """Horizontal lines of ink on cream, thicker in dark places."""
    y, _ = grid()
    dark = blur(1 - luma(canvas.colour), 2)
    wave = np.abs((y % 16) - 8) / 8
    lines = ((dark * 1.15 - wave) * 5).clip(0, 1)
    ink = np.maximum(lines, ((edges(canvas, 1.8) - 0.3) * 3).clip(0, 1))
    return Canvas(over(_flat(canvas, "#2b1d14"), ink.astype(np.float32), rgb("#f7efdc")), canvas.cover)


def balloon(canvas: Canvas, rng: Random) -> Canvas:
    """Puffed up and shiny: light on a surface that rises from the outline."""
    inside = canvas.cover > 0.5
    height = np.sqrt(ndimage.distance_transform_edt(inside)) * 5
    height = blur((height + 6 * luma(blur(canvas.colour, 3))).astype(np.float32), 5)
    gy, gx = np.gradient(height)
    normal = np.stack([-gx, -gy, np.full_like(gx, 0.9)], axis=2)
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    light = np.array([-0.45, -0.6, 0.66], np.float32)
    facing = (normal @ light).clip(0, 1)
    shine = facing[..., None] ** 18
    puffed = canvas.colour * (0.45 + 0.7 * facing[..., None]) + 0.75 * shine
    return Canvas(over(puffed.clip(0, 1), canvas.cover, WHITE).astype(np.float32), canvas.cover)


def stone(canvas: Canvas, rng: Random) -> Canvas:
    """Carved into grey stone: slopes lit from above left, speckled."""
    height = blur(luma(canvas.colour) * 0.7 + 0.6 * canvas.cover, 2.2)
    gy, gx = np.gradient(height)
    lit = 0.56 - 3.4 * (gx + gy) + 0.035 * noise(rng, 1.2) + 0.03 * noise(rng, 12)
    return Canvas(ramp(lit.clip(0, 1), "#1c1c1f", "#8f8b84", "#f2eee6"), canvas.cover)


def knitted(canvas: Canvas, rng: Random) -> Canvas:
    """Wool: V-shaped loops in rows of 4 pixels."""
    y, x = grid()
    v, u = y % 16, np.abs(x % 16 - 8)
    loop = np.abs((v - u * 0.9) % 16 - 6) / 8
    shade = 1.06 - 0.5 * loop.clip(0, 1) ** 2
    wool = cells(over(canvas.colour, canvas.cover, rgb("#efe9e1")), 8) * shade[..., None]
    return Canvas(wool.clip(0, 1).astype(np.float32), canvas.cover)


def bold_outline(canvas: Canvas, rng: Random) -> Canvas:
    """Flat comic colours inside a thick black outline."""
    flat = (canvas.colour * 3).round() / 3
    inner = ((edges(canvas, 1.5) - 0.55) * 4).clip(0, 1)
    grown = blur(canvas.cover, 5)
    outer = ((grown - 0.06) * 8).clip(0, 1) * (1 - ((blur(canvas.cover, 2) - 0.5) * 4).clip(0, 1))
    ink = np.maximum(inner, outer).astype(np.float32)
    return Canvas(over(_flat(canvas, "#0b0b0f"), ink, flat.astype(np.float32)), (grown > 0.1).astype(np.float32))


def silhouette(canvas: Canvas, rng: Random) -> Canvas:
    """A dark shape before an evening sky, with light along the outlines."""
    y, _ = grid()
    sky = ramp(y / LARGE, "#3b2a6b", "#e2605c", "#ffd27a")
    inner = ((edges(canvas, 2.0) - 0.3) * 2).clip(0, 1) * canvas.cover * 0.55
    shape = over(_flat(canvas, "#ffb070"), inner, rgb("#120d1a"))
    return Canvas(over(shape, canvas.cover, sky), np.ones_like(canvas.cover))
