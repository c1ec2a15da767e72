"""Settings of a method: one table of the federation file, in the file of the method that it is for."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, TypeAlias

import msgspec

Idle: TypeAlias = tuple[tuple[str, ...], str]
"""Keys of a table that have no effect, and the reason, in words that continue "as"."""


class _AbstractStructMeta(msgspec.StructMeta, ABCMeta):
    """Metaclass of structs that may have abstract methods."""


class MethodSettings(
    msgspec.Struct, metaclass=_AbstractStructMeta, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One table of the federation file: the name of a method, and the keys of that method.

    A subclass adds keys as fields, with their bounds as `msgspec.Meta`. It checks combinations of them in
    `__post_init__`, which raises ValueError with a reason that names the keys.

    Attributes:
        method: name of the method; the federation file always fills it in.
        without: keys of other methods of the family that this one cannot have, each with the reason, as a sentence.
    """

    without: ClassVar[Mapping[str, str]] = {}
    method: str = ""

    def idle(self) -> Sequence[Idle]:
        """Return the keys that have no effect beside the other keys of this table."""
        return ()


def not_subclass_of(kind: type) -> Callable[[object], str | None]:
    """Return a check for registries: an object must be a subclass of this class, without an abstract method."""

    def fault(method: object) -> str | None:
        if not (isinstance(method, type) and issubclass(method, kind)):
            return f"is no subclass of {kind.__module__}.{kind.__qualname__}"
        undone = undefined(method)
        return f"does not define {', '.join(undone)}" if undone else None

    return fault


def undefined(kind: type) -> list[str]:
    """Return the names of a class's abstract methods, sorted."""
    names: frozenset[str] = getattr(kind, "__abstractmethods__", frozenset())
    return sorted(names)
