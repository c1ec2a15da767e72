"""The queue of a helper, its quotas, deadlines and kept answers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from coordinator.assist.requests import Answer, Limits, Request, Requests
from edge_sdk.errors import HelperBusy, QuotaExceeded, RequestExpired
from edge_sdk.wire import assist, make_manifest

DRAWING = assist.Drawing(
    base_id="b1", variant="fp32", schedule="s", scheduler="ddim", steps=25, until=12, guidance=5.0, width=32,
    height=32, seed=7, hybrid="merge", adapters=[], form="blank", prompt=[], negative=None, deadline=1e9,
)  # fmt: skip


def request(device: str = "a", number: int = 0, deadline: float = 50.0, **changes: Any) -> Request:
    drawing = msgspec.structs.replace(DRAWING, **changes)
    return Request((device, f"{number:064x}"), drawing, 0.0, deadline)


def answer(size: int = 10, deadline: float = 50.0) -> Answer:
    data = bytes(size)
    return Answer(make_manifest(data, role="state", name="drawing"), data, 1.0, deadline)


def filled(*requests: Request, **limits: Any) -> Requests:
    usual = {"queue": 2, "together": 1, "per_device": 2, "a_minute": 4, "answers": 100, "ahead": 60.0}
    made = Requests(Limits(**{**usual, **limits}))
    for one in requests:
        made.add(one, 0.0)
    return made


def test_requests_are_drawn_in_their_order_one_at_a_time() -> None:
    first, second = request("a"), request("b")
    made = filled(first, second)
    assert len(made) == 2
    assert made.before(second.name) == [first]
    assert made.next() is first
    assert made.next() is None
    assert made.before(first.name) == []
    assert made.finish(first.name, answer()) is first
    assert made.next() is second
    assert made.before(first.name) is None
    assert made.answer(first.name) == answer()


def test_requests_of_a_kind_are_drawn_together_and_none_is_overtaken() -> None:
    one, other = (
        request("a"),
        request("b", seed=8, guidance=1.0, scheduler="dpm++", until=20, form="open", prompt=[b""]),
    )
    apart, later = request("c", steps=26, until=12), request("d")
    made = filled(one, other, apart, later, queue=9, together=3)
    assert [made.next() for _ in range(3)] == [one, other, None]
    assert made.before(later.name) == [one, other, apart]
    made.finish(one.name, answer())
    assert made.next() is None
    made.finish(other.name, answer())
    assert [made.next() for _ in range(2)] == [apart, None]
    made.finish(apart.name, None)
    assert made.next() is later


@pytest.mark.parametrize(
    "changes",
    [
        {"adapters": [assist.AdapterUse(sha256="a" * 64, weight=1.0)]},
        {"hybrid": "guide"},
        {"steps": 24},
        {"width": 64},
        {"height": 64},
    ],
)
def test_requests_that_cannot_be_drawn_together(changes: dict[str, Any]) -> None:
    made = filled(request("a"), request("b", **changes), together=9)
    assert [made.next() is None for _ in range(2)] == [False, True]


def test_no_more_are_drawn_together_than_may_be() -> None:
    made = filled(*(request(device) for device in "abc"), queue=9, together=2)
    assert [made.next() is None for _ in range(3)] == [False, False, True]


def test_a_full_queue_takes_no_more_and_loses_nothing() -> None:
    made = filled(request("a"), request("b"))
    with pytest.raises(HelperBusy, match="2 requests wait"):
        made.add(request("c"), 0.0)
    made.next()
    made.add(request("c"), 0.0)
    assert [one.device for one in made.everything()] == ["a", "b", "c"]


def test_a_device_has_a_quota_of_requests_that_wait() -> None:
    made = filled(request("a", 1), request("a", 2), queue=9)
    with pytest.raises(QuotaExceeded, match="2 requests of this device"):
        made.add(request("a", 3), 0.0)
    made.add(request("b", 3), 0.0)


def test_a_device_has_a_quota_of_requests_in_a_minute() -> None:
    made = filled(queue=9)
    for number in range(4):
        made.add(request("a", number), 0.0)
        made.next()
        made.finish(request("a", number).name, None)
    with pytest.raises(QuotaExceeded, match="More than 4 requests"):
        made.add(request("a", 9), 0.0)
    made.add(request("b", 9), 0.0)
    made.add(request("a", 9), 15.0)


@pytest.mark.parametrize("deadline", [-1.0, 0.0, 60.1, float("inf"), float("nan")])
def test_deadlines_that_have_passed_or_are_too_far_away(deadline: float) -> None:
    made = filled()
    with pytest.raises(RequestExpired, match="deadline of this request"):
        made.add(request(deadline=deadline), 0.0)
    assert len(made) == 0


def test_nothing_is_drawn_twice() -> None:
    """A known request has its answer, and is spent once that is gone, until its deadline has passed."""
    one = request()
    made = filled(one)
    with pytest.raises(RequestExpired, match="answered or ended before"):
        made.add(request(), 0.0)
    made.next()
    with pytest.raises(RequestExpired, match="answered or ended before"):
        made.add(request(), 0.0)
    made.finish(one.name, answer(size=200))  # more than is kept
    assert made.answer(one.name) is None
    assert [name for name, _ in made.dropped()] == [one.name]
    assert made.dropped() == []
    with pytest.raises(RequestExpired, match="answered or ended before"):
        made.add(request(), 49.0)
    made.expire(50.0)
    with pytest.raises(RequestExpired, match="has passed"):
        made.add(request(), 50.0)


def test_the_oldest_answers_go_first() -> None:
    made = filled(request("a"), request("b"))
    for device in ("a", "b"):
        made.next()
        made.finish(request(device).name, answer(60))
    assert made.answer(request("a").name) is None
    assert made.answer(request("b").name) is not None


def test_a_request_that_is_cancelled_while_it_waits() -> None:
    one, other = request("a"), request("b")
    made = filled(one, other)
    assert made.cancel(one.name) is one
    assert made.cancel(one.name) is None
    assert made.next() is other
    with pytest.raises(RequestExpired):
        made.add(request("a"), 1.0)


def test_a_request_that_is_cancelled_while_it_is_drawn() -> None:
    one = request()
    made = filled(one)
    made.next()
    assert made.cancel(one.name) is one
    assert one.stopped
    assert made.before(one.name) is None
    assert made.cancel(one.name) is None
    assert made.finish(one.name, answer()) is one
    assert made.answer(one.name) is None


def test_an_answer_that_is_cancelled_is_dropped() -> None:
    one = request()
    made = filled(one)
    made.next()
    made.finish(one.name, answer())
    assert made.cancel(one.name) is None
    assert made.answer(one.name) is None
    assert len(made.dropped()) == 1


def test_deadlines_pass() -> None:
    drawn, waiting, later = request("a", deadline=10.0), request("b", deadline=11.0), request("c", deadline=50.0)
    made = filled(drawn, waiting, later, queue=9)
    made.next()
    assert made.expire(9.9) == []
    assert made.expire(11.0) == [drawn, waiting]
    assert drawn.stopped
    assert made.expire(12.0) == []
    assert made.finish(drawn.name, None) is drawn
    assert made.next() is later
    made.finish(later.name, answer(deadline=50.0))
    assert made.expire(50.0) == []
    assert made.answer(later.name) is None


def test_all_can_be_stopped() -> None:
    first, second = request("a"), request("b")
    made = filled(first, second)
    made.next()
    assert made.stop_all() == [first, second]
    assert made.stop_all() == []
