"""The queue in front of the coordinator's loop."""

from __future__ import annotations

import threading

from coordinator.ingress.inbox import Inbox


def test_messages_come_in_order_and_before_chunks() -> None:
    inbox: Inbox[str] = Inbox(100)
    inbox.put("chunk", 10, bulk=True)
    inbox.put("one", 10)
    inbox.put("two", 10)
    assert [inbox.get(60) for _ in range(3)] == ["one", "two", "chunk"]
    assert inbox.get(0) is None


def test_chunks_take_no_room_from_messages() -> None:
    inbox: Inbox[str] = Inbox(100)
    for _ in range(30):
        inbox.put("chunk", 10, bulk=True)
    inbox.put("leave", 10)
    assert inbox.get(60) == "leave"
    assert inbox.dropped() == (0, 20)
    assert inbox.dropped() == (0, 0)


def test_what_was_taken_makes_room() -> None:
    inbox: Inbox[str] = Inbox(100)
    inbox.put("large", 100)
    inbox.put("lost", 1)
    assert inbox.get(60) == "large"
    inbox.put("large again", 100)
    assert inbox.get(60) == "large again"
    assert inbox.dropped() == (1, 0)


def test_whoever_waits_is_woken() -> None:
    inbox: Inbox[str] = Inbox(100)
    threading.Thread(target=inbox.put, args=("late", 1), daemon=True).start()
    assert inbox.get(60) == "late"


def test_a_flood_of_messages_does_not_keep_chunks_waiting() -> None:
    inbox: Inbox[str] = Inbox(10_000)
    inbox.put("chunk", 10, bulk=True)
    for _ in range(100):
        inbox.put("message", 10)
    assert "chunk" in [inbox.get(60) for _ in range(50)]
