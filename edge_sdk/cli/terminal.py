"""Terminal output that all commands share: errors, warnings, a progress bar."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edge_sdk.errors import describe
from edge_sdk.streams import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


def console(stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def print_error(error: BaseException) -> None:
    """Print an error on one line of stderr, whatever the width of the terminal."""
    from rich.text import Text

    console(stderr=True).print(Text.assemble(("error: ", "bold red"), describe(error)), soft_wrap=True)


def progress_bar() -> Progress:
    """A progress bar on stderr with a column for a "note". It vanishes when done, and shows on terminals only."""
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
def printed_warnings(kind: type[Warning] = Warning) -> Iterator[None]:
    """Print the warnings raised inside as plain lines at the end, also after an error.

    kind: the class of warnings to print; others go their usual way.
    """
    from rich.text import Text

    caught: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("default" if kind is Warning else "always", kind)
        usual = warnings.showwarning

        def keep(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, kind):
                caught.append(str(message))
            else:
                usual(message, category, *where, **more)

        warnings.showwarning = keep
        try:
            yield
        finally:
            for text in dict.fromkeys(caught):
                console(stderr=True).print(Text.assemble(("note: ", "yellow"), printable(text)), soft_wrap=True)
