"""Writing pictures to files, which are complete or not there."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

from PIL import Image

from edge_sdk import durable
from edge_sdk.errors import OutputError


def format_of(path: Path) -> str | None:
    """Pillow's name of the format in which a file of that name is written; None if there is none."""
    name = Image.registered_extensions().get(path.suffix.lower())
    return name if name in Image.SAVE and _takes_pictures(name) else None


@cache
def _takes_pictures(name: str) -> bool:
    """True if a format can be written here and holds RGB.

    Pillow knows some formats by name only, and some are for icons of two colours.
    """
    try:
        Image.new("RGB", (8, 8)).save(io.BytesIO(), name)
    except Exception:  # whatever the writer raises, it cannot be used
        return False
    return True


def save_picture(image: Image.Image, path: Path) -> None:
    """Write a picture in the format of the file's suffix.

    Raises:
        OutputError: the suffix is that of no format that can be written.
        OSError: the file cannot be written, as on a full disk; the error names it, and nothing is left of it.
    """
    kind = format_of(path)
    if kind is None:
        raise OutputError(f"{path} has no suffix of a picture format that can be written; use .png.")
    buffer = io.BytesIO()
    image.save(buffer, kind)
    durable.write(path, buffer.getvalue())
