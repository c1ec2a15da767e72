"""Pictures that a tiny model can learn from: a coloured square on white, with a caption that says so."""

from __future__ import annotations

from PIL import Image

COLORS = ("red", "blue", "green", "black", "orange", "purple")


def squares(n: int, size: int = 32) -> list[tuple[Image.Image, str]]:
    """`n` different captioned pictures, always the same ones."""
    pictures = []
    for i in range(n):
        color, side, left = COLORS[i % len(COLORS)], size // 4 + i, 2 + i // len(COLORS)
        image = Image.new("RGB", (size, size), "white")
        image.paste(color, (left, left, left + side, left + side))
        pictures.append((image, f"a {color} square of size {i}"))
    return pictures
