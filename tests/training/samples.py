"""Pictures that a tiny model can learn from: a coloured square on white, with a caption that says so."""

from __future__ import annotations

import json
from pathlib import Path

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


def write_squares(folder: Path, n: int, size: int = 32) -> Path:
    """The same pictures as a folder with metadata.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for i, (image, text) in enumerate(squares(n, size)):
        image.save(folder / f"{i}.png")
        lines.append(json.dumps({"file_name": f"{i}.png", "text": text}))
    (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder
