"""Where a command writes pictures."""

from __future__ import annotations

from pathlib import Path

import typer


def checked_output(path: Path) -> Path:
    """The path, if a picture can be written there; its folder is made. Said before the drawing, not after it.

    Raises:
        typer.BadParameter: the suffix is that of no format that can be written.
    """
    from PIL import Image

    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise typer.BadParameter(f"{path} has no suffix of a picture format that can be written; use .png.")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
