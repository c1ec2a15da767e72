"""Save, then act: nothing happens that is not saved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator import rounds
from coordinator.runner import Runner
from coordinator.store import Database
from edge_sdk.errors import StoreUnavailable
from edge_sdk.wire.messages import Committed, Refused, RoundDone
from tests.coordinator.federations import BASE_ID, aggregate_by_name, cluster_by_name, joined, profile, rules, stored

NAMES = ("a1", "a2", "a3")


class Kept(Database):
    """Counts what is saved."""

    saves = 0

    def save(self, *given: Any, **named: Any) -> None:
        self.saves += 1
        super().save(*given, **named)


class Book:
    """A runner, and who carries its actions out."""

    def __init__(self, folder: Path) -> None:
        self.database = Kept(f"sqlite:///{folder / 'state.sqlite'}", "tastes", BASE_ID)
        self.runner = Runner(rules(root_rounds=3), self.database, lambda: (5, 7))
        self.done: list[rounds.Action] = []

    def act(self, action: rounds.Action) -> rounds.Event | None:
        assert rounds.State() != self.database.load(), "nothing is done that is not saved"
        self.done.append(action)
        match action:
            case rounds.Cluster():
                return cluster_by_name(action)
            case rounds.Aggregate():
                return aggregate_by_name(action)
        return None

    def settle(self) -> None:
        self.runner.settle(self.act)

    def sent(self, kind: type) -> list[str]:
        return [a.device for a in self.done if isinstance(a, rounds.Send) and isinstance(a.message, kind)]


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    made = Book(tmp_path)
    yield made
    made.database.close()


def join(book: Book) -> None:
    for name in NAMES:
        book.runner.feed(rounds.Joined(name, profile()))
    book.settle()


def test_events_that_come_together_are_saved_together(book: Book) -> None:
    for name in NAMES:
        book.runner.feed(joined(name))
    assert book.database.saves == 0
    assert book.done == []
    book.settle()
    assert book.database.saves == 2, "the joins, and the clusters that they led to"
    book.runner.feed(joined("a1"))
    book.settle()
    assert book.database.saves == 2, "a join that changes nothing"
    assert book.database.profiles() == dict.fromkeys(NAMES, profile())
    assert book.database.load() == book.runner.state
    assert book.database.traffic() == (5, 7)
    book.settle()
    assert book.database.saves == 2


def test_no_promise_leaves_before_it_is_saved(book: Book) -> None:
    join(book)
    for name in NAMES:
        book.runner.feed(stored(name, 1))
    assert book.sent(Committed) == []
    assert book.database.updates() == []
    book.settle()
    assert book.sent(Committed) == list(NAMES)
    assert book.sent(RoundDone) == list(NAMES), "what an action answers with is fed as well"
    assert [row["device"] for row in book.database.updates()] == list(NAMES)
    assert book.database.load() == book.runner.state


def test_a_crash_before_it_is_saved_leaves_all_as_it_was(book: Book) -> None:
    join(book)
    before = book.database.load()
    book.runner.feed(stored("a1", 1))
    assert Runner(rules(), book.database, lambda: (0, 0)).state == before


def test_where_the_disk_fails_everything_stays_due(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("the disk is full")

    for name in NAMES:
        book.runner.feed(rounds.Joined(name, profile()))
    with monkeypatch.context() as patched:
        patched.setattr(Database, "save", full)
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                book.settle()
    assert book.done == []
    book.settle()
    for name in NAMES:
        book.runner.feed(stored(name, 1))
    act, failures = book.act, iter([True, True, False])

    def acting(action: rounds.Action) -> rounds.Event | None:
        if isinstance(action, rounds.Aggregate) and next(failures):
            raise StoreUnavailable("the disk is full")
        return act(action)

    monkeypatch.setattr(book, "act", acting)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            book.settle()
        assert book.sent(Committed) == list(NAMES), "once each"
        assert book.sent(RoundDone) == []
    book.runner.feed(rounds.Joined("a4", profile()))
    book.settle()
    assert book.sent(RoundDone) == list(NAMES)
    assert book.database.load() == book.runner.state
    assert book.runner.state.round == 1
    assert "a4" in book.runner.state.devices


def test_the_profile_of_a_device_that_is_refused_is_not_kept(book: Book) -> None:
    join(book)
    book.runner.feed(rounds.Joined("a1", profile(base_id="c" * 64)))
    book.runner.feed(rounds.Joined("a2", profile(pictures=11)))
    book.settle()
    assert book.database.profiles() == {"a1": profile(), "a2": profile(pictures=11), "a3": profile()}


def test_a_profile_is_kept_whatever_else_its_join_calls_for(book: Book) -> None:
    """A device that was said to be gone is sent a Refused in the same step; its new profile was lost then."""
    for name in NAMES:
        book.runner.feed(joined(name))
    book.runner.feed(rounds.Seen("a1", online=False, epoch=1))
    book.settle()
    book.done.clear()
    book.runner.feed(rounds.Joined("a1", profile(pictures=77)))
    book.settle()
    assert book.sent(Refused) == ["a1"]
    assert book.database.profiles()["a1"] == profile(pictures=77)
    book.runner.feed(rounds.Joined("a1", profile(base_id="c" * 64)))
    book.settle()
    assert book.database.profiles()["a1"] == profile(pictures=77), "a profile that is turned away is none"
