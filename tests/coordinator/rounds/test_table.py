"""Tables and queues of the state against a dict and a sorted list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coordinator.rounds.state.heap import Queue, popped, pushed, queued
from coordinator.rounds.state.table import Table

NAMES = st.text("ab", max_size=3) | st.integers(0, 200).map(str)
CHANGES = st.lists(st.tuples(NAMES, st.none() | st.integers(0, 3)), max_size=60)


@given(entries=st.dictionaries(NAMES, st.integers(), max_size=100), changes=CHANGES)
def test_a_table_is_a_dict_whose_copies_do_not_change_it(
    entries: dict[str, int], changes: list[tuple[str, int]]
) -> None:
    first = table = Table(entries)
    kept, expected = dict(entries), dict(entries)
    for name, value in changes:
        if value is None:
            table, _ = table.drop(name), expected.pop(name, None)
        else:
            table, expected[name] = table.put(name, value), value
    assert dict(first) == kept == first
    assert dict(table) == expected == table
    assert table == Table(expected)
    assert len(table) == len(expected)
    assert all(name in table and table[name] == value for name, value in expected.items())
    differing = {name for name, _ in kept.items() ^ expected.items()}
    assert differing <= set(table.changed_from(first)) == set(table.changed_from(kept))
    assert set(table.changed_from(table)) == set()
    assert (table == first) == (expected == kept)


def test_a_table_of_many_shares_nearly_all_with_its_copy() -> None:
    seen: list[str] = []

    class Watched(str):
        """A name that tells when it is looked at."""

        def __hash__(self) -> int:
            seen.append(self)
            return super().__hash__()

        __eq__ = str.__eq__

    table = Table({Watched(number): number for number in range(10_000)})
    seen.clear()
    assert list(table.put("77", -1).changed_from(table)) == ["77"]
    assert len(seen) < 100


@given(entries=st.lists(st.tuples(st.floats(0, 10), st.text("ab", max_size=2))), more=st.lists(st.floats(0, 10)))
def test_a_queue_is_a_sorted_list(entries: list[tuple[float, str]], more: list[float]) -> None:
    queue: Queue = queued(entries)
    for time in more:
        queue = pushed(queue, (time, "more"))
    found = []
    while queue is not None:
        found.append(queue.first)
        queue = popped(queue)
    assert found == sorted([*entries, *((time, "more") for time in more)])
