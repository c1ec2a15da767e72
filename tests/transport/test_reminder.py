"""Intervals between messages about a wait."""

from __future__ import annotations

from itertools import pairwise

from edge_sdk.transport import Reminder


def test_a_wait_is_told_after_a_while_and_then_less_and_less_often() -> None:
    reminder = Reminder(10, 35)
    told = [now for now in range(200) if reminder.due("devices", now) is not None]
    assert told == [10, 20, 40, 75, 110, 145, 180]


def test_another_wait_begins_anew() -> None:
    reminder = Reminder(10)
    assert [reminder.due("devices", now) for now in (0, 10)] == [None, 10]
    assert [reminder.due("broker", now) for now in (15, 24, 25)] == [None, None, 10]
    assert [reminder.due(None, now) for now in (26, 500)] == [None, None]
    assert [reminder.due("broker", now) for now in (500, 511)] == [None, 11]


def test_whether_to_look_is_known_before() -> None:
    reminder = Reminder(10)
    assert not reminder.may_be_due(1000), "nothing is waited for"
    reminder.due("devices", 1000)
    assert [reminder.may_be_due(now) for now in (1009, 1010)] == [False, True]


def test_a_day_of_waiting_is_no_flood() -> None:
    reminder = Reminder(5, 600)
    told = [now for now in range(24 * 3600) if reminder.due("devices", now) is not None]
    assert 100 < len(told) < 200
    assert max(later - earlier for earlier, later in pairwise(told)) <= 600
