"""Queues by time: immutable, so that they can be part of a state; a copy with one entry more or less costs O(log n).

A queue is a leftist heap (Crane 1972): no entry is earlier than its parent, and the way down on the right is the
shortest one. So two heaps merge along their right sides.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

Entry: TypeAlias = tuple[float, str]
"""A time and a name."""


class Heap(NamedTuple):
    """A queue that is not empty.

    Attributes:
        length: nodes on the way down on the right.
        first: the earliest entry.
        left, right: the other entries.
    """

    length: int
    first: Entry
    left: Heap | None
    right: Heap | None


Queue: TypeAlias = Heap | None


def pushed(queue: Queue, entry: Entry) -> Heap:
    """Return the queue with one more entry."""
    made = _merged(queue, Heap(1, entry, None, None))
    assert made is not None, "it has an entry"
    return made


def popped(queue: Heap) -> Queue:
    """Return the queue without its first entry."""
    return _merged(queue.left, queue.right)


def queued(entries: Iterable[Entry]) -> Queue:
    """Return the queue of these entries, in O(n)."""
    heaps: list[Queue] = [Heap(1, entry, None, None) for entry in entries]
    while len(heaps) > 1:
        heaps = [_merged(heaps[i], heaps[i + 1] if i + 1 < len(heaps) else None) for i in range(0, len(heaps), 2)]
    return heaps[0] if heaps else None


def _merged(one: Queue, other: Queue) -> Queue:
    if one is None or other is None:
        return one or other
    if other.first < one.first:
        one, other = other, one
    left, right = one.left, _merged(one.right, other)
    if left is None or (right is not None and left.length < right.length):
        left, right = right, left
    return Heap(1 + (right.length if right else 0), one.first, left, right)
