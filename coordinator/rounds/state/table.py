"""Tables: immutable mappings from names to values, of which a changed copy costs the same however long they are.

A table is a tree: a node is a tuple of 16 nodes, chosen by four bits of the name's CRC-32, or a leaf of a few entries.
A changed copy makes the few nodes on the way to its leaf anew and shares all others with its original. Shared nodes
also tell what differs between two tables without looking at the rest.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar, cast

import msgspec
from msgspec.structs import force_setattr

V = TypeVar("V")
_Node: TypeAlias = Any
"""A leaf (a dict) or a tuple of `_WIDTH` nodes."""

_BITS = 4
_WIDTH = 1 << _BITS
_MOST = 16  # entries of a leaf
_DEEPEST = 32 // _BITS  # the bits of a name are used up
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_MISSING = object()


class Table(Mapping[str, V]):
    """An immutable mapping from names to values. The order of its entries has no meaning.

    Args:
        entries: the entries; a table is shared, not copied.
    """

    __slots__ = ("_count", "_root")

    def __init__(self, entries: Mapping[str, V] = _NOTHING, /) -> None:
        self._root: _Node = entries._root if isinstance(entries, Table) else _planted(dict(entries), 0)
        self._count: int = len(entries)

    def put(self, name: str, value: V) -> Table[V]:
        """Return the table with this entry added or replaced."""
        return self._copy(_put(self._root, _bits(name), 0, name, value), self._count + (name not in self))

    def drop(self, name: str) -> Table[V]:
        """Return the table without an entry; itself if it has none of that name."""
        if name not in self:
            return self
        return self._copy(_drop(self._root, _bits(name), name), self._count - 1)

    def changed_from(self, before: Mapping[str, V]) -> Iterator[str]:
        """Yield the names whose values are other objects here than in an earlier table, or are in one of the two only.

        Parts that both tables share are not looked at.
        """
        return _differing(before._root if isinstance(before, Table) else dict(before), self._root)

    def __getitem__(self, name: str) -> V:
        return cast("V", _leaf(self._root, name)[name])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in _leaf(self._root, name)

    def __iter__(self) -> Iterator[str]:
        for leaf in _leaves(self._root):
            yield from leaf

    def __len__(self) -> int:
        return self._count

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Table):
            return self._root is other._root or (
                len(self) == len(other)
                and all(self.get(name, _MISSING) == other.get(name, _MISSING) for name in self.changed_from(other))
            )
        return dict(self) == other if isinstance(other, Mapping) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Table({dict(self)!r})"

    @classmethod
    def _copy(cls, root: _Node, count: int) -> Table[V]:
        made = cls.__new__(cls)
        made._root, made._count = root, count
        return made


def tabulate(of: msgspec.Struct, name: str, entries: Mapping[str, V]) -> Table[V]:
    """Make an attribute of a new struct a table."""
    if isinstance(entries, Table):
        return entries
    made = Table(entries)
    force_setattr(of, name, made)
    return made


def _bits(name: str) -> int:
    return zlib.crc32(name.encode())


def _planted(entries: dict[str, Any], depth: int) -> _Node:
    """Return the tree of these entries, whose names agree in the bits above."""
    if len(entries) <= _MOST or depth == _DEEPEST:
        return entries
    parts: list[dict[str, Any]] = [{} for _ in range(_WIDTH)]
    for name, value in entries.items():
        parts[_bits(name) >> depth * _BITS & _WIDTH - 1][name] = value
    return tuple(_planted(part, depth + 1) for part in parts)


def _leaf(node: _Node, name: str) -> Mapping[str, Any]:
    if type(node) is tuple:
        bits = _bits(name)
        while type(node) is tuple:
            node = node[bits & _WIDTH - 1]
            bits >>= _BITS
    return cast("Mapping[str, Any]", node)


def _put(node: _Node, bits: int, depth: int, name: str, value: object) -> _Node:
    if type(node) is not tuple:
        return _planted({**node, name: value}, depth)
    at = bits & _WIDTH - 1
    return (*node[:at], _put(node[at], bits >> _BITS, depth + 1, name, value), *node[at + 1 :])


def _drop(node: _Node, bits: int, name: str) -> _Node:
    if type(node) is not tuple:
        return {other: value for other, value in node.items() if other != name}
    at = bits & _WIDTH - 1
    return (*node[:at], _drop(node[at], bits >> _BITS, name), *node[at + 1 :])


def _leaves(node: _Node) -> Iterator[Mapping[str, Any]]:
    if type(node) is tuple:
        for child in node:
            yield from _leaves(child)
    else:
        yield node


def _differing(before: _Node, after: _Node) -> Iterator[str]:
    if before is after:
        return
    if type(before) is tuple and type(after) is tuple:
        for old, new in zip(before, after, strict=True):
            yield from _differing(old, new)
        return
    olds = {name: value for leaf in _leaves(before) for name, value in leaf.items()}
    news = {name: value for leaf in _leaves(after) for name, value in leaf.items()}
    for name in olds.keys() | news.keys():
        if olds.get(name, _MISSING) is not news.get(name, _MISSING):
            yield name
