"""Pictures into files that are whole or not there."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

from PIL import Image

from edge_sdk import durable
from edge_sdk.errors import OutputError


def format_of(path: Path) -> str | None:
    """The format, as Pillow calls it, in which a picture is written to a file of that name; None if there is none."""
    name = Image.registered_extensions().get(path.suffix.lower())
    return name if name in Image.SAVE and _takes_pictures(name) else None


@cache
def _takes_pictures(name: str) -> bool:
    """Whether a format can be written here, and holds RGB: of some Pillow knows the name alone, and some are for icons
    of two colours."""
    try:
        Image.new("RGB", (8, 8)).save(io.BytesIO(), name)
    except Exception:  # whatever the writer raises, it is no use
        return False
    return True


def save_picture(image: Image.Image, path: Path) -> None:
    """Write a picture in the format of the file's suffix.

    Raises:
        OutputError: there is no such format.
        OSError: the file cannot be written, as on a full disk; it names the file, of which no half is left.
    """
    kind = format_of(path)
    if kind is None:
        raise OutputError(f"{path} has no suffix of a picture format that can be written; use .png.")
    buffer = io.BytesIO()
    image.save(buffer, kind)
    durable.write(path, buffer.getvalue())
