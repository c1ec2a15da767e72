"""Output files of a command, checked before the work and not after it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import typer

from edge_sdk import durable
from edge_sdk.errors import OutputError


def checked_output(path: Path) -> Path:
    """Return the path if a picture can be written there; its folder is made.

    Raises:
        typer.BadParameter: the suffix is that of no format that can be written.
        OutputError: it is a folder, or cannot be written.
    """
    from edge_sdk.pictures import format_of

    if format_of(path) is None and not _is_folder(path):
        raise typer.BadParameter(f"{path} has no suffix of a picture format that can be written; use .png.")
    check_outputs([path], "picture.png")
    return path


def check_outputs(paths: Iterable[Path], example: str) -> None:
    """Check that files can be written; their folders are made.

    example: the file name that the error suggests if a folder was given.

    Raises:
        OutputError: one is a folder, or cannot be written.
    """
    for path in paths:
        if _is_folder(path):
            raise OutputError(f"{path} is a folder: name the file, such as --out {path / example}")
        try:
            durable.check(path)
        except OSError as error:
            raise OutputError(f"Cannot write {path}: {error.strerror}. Name another place with --out.") from error


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long, say
        return False
