"""What all commands print alike."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


def console(stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def print_error(error: BaseException) -> None:
    """One line on stderr, whatever the width of the terminal."""
    from rich.text import Text

    text = " ".join(str(error).split())
    console(stderr=True).print(Text.assemble(("error: ", "bold red"), text), soft_wrap=True)


def progress_bar() -> Progress:
    """A bar on stderr with a column for a "note". It goes away when it is done, and is shown to people only."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    screen = console(stderr=True)
    return Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal)


@contextmanager
def printed_warnings() -> Iterator[None]:
    """Show the warnings raised inside as lines for a person, once they are all there."""
    from rich.text import Text

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        yield
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        console(stderr=True).print(Text.assemble(("note: ", "yellow"), message), soft_wrap=True)
