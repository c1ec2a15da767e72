"""Sizes of memory on the command line."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer


def _checked(text: str | None) -> str | None:
    """The text of a size, which may be missing.

    Raises:
        BadParameter: it is no size.
    """
    if text is not None:
        from edge_sdk.inference.runtime import parse_size

        try:
            parse_size(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
    return text


MemoryLimit: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--memory-limit",
        help="Memory that learning may take, such as 2GB: how it goes is chosen for that.",
        show_default="no limit",
        callback=_checked,
    ),
]
