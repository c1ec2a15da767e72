"""The tree of errors that the module's docstring draws is the tree of its classes."""

from __future__ import annotations

import inspect
import re

from edge_sdk import errors


def test_the_drawn_tree_is_that_of_the_classes() -> None:
    drawn: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"^[ │├└─]*?([A-Z]\w+)( {2,}|$)", line):
            column, name = found.start(1), found[1]
            above = [(at, parent) for at, parent in above if at < column]
            drawn[name] = above[-1][1] if above else ""
            above.append((column, name))
    classes = {
        name: cls.__mro__[1].__name__
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if cls.__module__ == errors.__name__
    }
    assert classes.pop("ImpastoError") == "Exception"
    assert drawn.pop("ImpastoError") == ""
    assert drawn == classes
