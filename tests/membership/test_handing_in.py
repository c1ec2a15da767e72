"""Updates from their training until they count, are refused, or make room: rounds again, late, left over."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from edge_sdk.adapter import Adapter, to_bytes
from edge_sdk.membership import RoundPlan, TrainedUpdate
from edge_sdk.membership.home import Home
from edge_sdk.membership.line.connection import Link
from edge_sdk.transport import Settings
from edge_sdk.transport.bandwidth import Pacer
from edge_sdk.wire.messages import (
    Committed,
    Finished,
    Hello,
    Manifest,
    Offer,
    Pull,
    Refused,
    RoundDone,
    encode,
)
from edge_sdk.wire.transfer import Sender, make_manifest
from tests.coordinator.adapters import BASE_ID, random_adapter
from tests.membership.stage import TOPICS, Learner, Me, Stage, join, leave_over, start


@pytest.mark.parametrize("code", ["UpdateOutlier", "UpdateLost"])
def test_what_becomes_of_an_update_after_it_was_committed_is_told(
    url: str, stage: Stage, tmp_path: Path, code: str
) -> None:
    """The owner read that it was handed in, and was never told that it does not count."""
    me = Me(url, tmp_path, Learner())
    join(stage)
    stage.say(start())
    offer = stage.hear(Offer)
    stage.take(offer)
    for _ in range(2):
        stage.say(Refused(code=code, reason="It does not count.", about=offer.manifest.sha256))
    stage.say(Refused(code="StaleUpdate", reason="", about=offer.manifest.sha256))
    stage.say(Finished(rounds=1, cluster=0, adapters=[]))
    assert me.result().updates == 1
    (refused,) = me.named("update_refused")
    assert (refused["round"], refused["reason"]) == (1, f"{code}: It does not count.")


def test_the_same_round_again_is_not_trained_again(url: str, stage: Stage, tmp_path: Path) -> None:
    """The coordinator repeats itself when a device joins again, and when a round is extended."""
    learn = Learner()
    me = Me(url, tmp_path, learn)
    join(stage)
    stage.say(start())
    first = stage.hear(Offer)
    stage.take(first)
    stage.say(start(deadline=30.0))
    assert stage.hear(Offer) == first
    stage.take(first)
    stage.say(Finished(rounds=1, cluster=0, adapters=[]))
    assert me.result().updates == 1
    assert len(learn.plans) == 1


def test_updates_that_nobody_answers_do_not_stay_in_memory(
    url: str, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    links: list[Link] = []
    original = Link.offer

    def noted(link: Link, data: bytes, manifest: Manifest) -> None:
        links.append(link)
        original(link, data, manifest)

    monkeypatch.setattr(Link, "offer", noted)
    stage.silent = True
    learn = Learner()
    me = Me(url, tmp_path, learn)
    join(stage)
    for number in range(1, 6):
        learn.adapter = Adapter(random_adapter(number).layers)
        stage.say(start(number, rounds=5))
        offer = stage.hear(Offer)
        stage.transport.publish(TOPICS.control("me", "down"), encode(pull_of_all(offer)))
    stage.say(Finished(rounds=5, cluster=0, adapters=[]))
    me.result()
    assert len(links) == 5
    assert links[0]._exchange._offers == {}
    assert links[0]._pacer.due(0.0) is None


def pull_of_all(offer: Offer) -> Pull:
    return Pull(sha256=offer.manifest.sha256, missing=b"\xff"[: offer.manifest.chunks], credit=1)


class TestRoundsThatAreOpenedAnew:
    """The coordinator abandons a round to which nobody has delivered, and opens it again as another attempt."""

    @pytest.mark.parametrize("then", [2, 1])
    def test_the_same_work_is_not_done_again(self, url: str, stage: Stage, tmp_path: Path, then: int) -> None:
        learn = Learner()
        me = Me(url, tmp_path, learn, rounds=1)
        join(stage)
        stage.say(start(attempt=3 - then))
        first = stage.hear(Offer)
        stage.say(start(attempt=then))
        stage.say(Refused(code="OtherAttempt", reason="", about=first.manifest.sha256))  # it has crossed the start
        for _ in range(2):
            assert stage.hear(Offer) == replace(first, attempt=then)
        stage.take(first)
        stage.say(RoundDone(round=1, accepted=True, updates=1))
        stage.say(start(2))
        me.result()
        assert len(learn.plans) == 1
        assert not me.named("update_refused")

    def test_nor_when_the_refusal_came_before(self, url: str, stage: Stage, tmp_path: Path) -> None:
        learn = Learner()
        Me(url, tmp_path, learn)
        join(stage)
        stage.say(start())
        first = stage.hear(Offer)
        stage.say(Refused(code="OtherAttempt", reason="", about=first.manifest.sha256))
        stage.say(start(attempt=2))
        again = stage.hear(Offer)
        assert again == replace(first, attempt=2)
        assert len(stage.take(again)) == again.manifest.size
        assert len(learn.plans) == 1

    def test_a_device_that_restarts_offers_it_for_the_attempt_that_it_was_told_last(
        self, url: str, stage: Stage, tmp_path: Path
    ) -> None:
        leave_over(tmp_path, "offered")
        with closing(Home(tmp_path).journal()) as journal:
            last = journal.outbox
            assert last
            assert last.offer
            journal.restate(last.plan, replace(last.offer, attempt=7))
        learn = Learner()
        Me(url, tmp_path, learn)
        join(stage)
        stage.say(start(2, attempt=8, late=1))
        assert stage.hear(Offer).attempt == 7, "late, for the round that it was trained for"
        assert learn.plans == []

    def test_other_work_is_done(self, url: str, stage: Stage, tmp_path: Path) -> None:
        learn = Learner()
        Me(url, tmp_path, learn)
        join(stage)
        root = stage.serve(random_adapter(7), "root", "root")
        stage.say(start(stage="cluster", cluster=0, frozen=[root]))
        first = stage.hear(Offer)
        learn.adapter = Adapter(random_adapter(2).layers)
        stage.say(start(attempt=2, stage="cluster", cluster=1, frozen=[root]))
        second = stage.hear(Offer)
        assert (first.attempt, second.attempt) == (1, 2)
        assert first.manifest.sha256 != second.manifest.sha256
        assert [plan.cluster for plan in learn.plans] == [0, 1]


def test_what_came_while_training_is_caught_up_with(url: str, stage: Stage, tmp_path: Path) -> None:
    """Rounds 1 and 2 closed without the device: it goes on with round 3 and does not train round 2."""
    rounds_closed = threading.Event()
    learn = Learner()

    def slow(plan: RoundPlan) -> TrainedUpdate:
        if plan.round == 1:
            stage.say(RoundDone(round=1, accepted=False, updates=2))
            stage.say(start(2))
            stage.say(RoundDone(round=2, accepted=False, updates=2))
            stage.say(start(3))
            rounds_closed.set()
        return learn(plan)

    me = Me(url, tmp_path, slow)
    join(stage)
    stage.say(start(1))
    assert stage.hear(Offer).round == 1
    offer = stage.hear(Offer)
    assert offer.round == 3
    stage.take(offer)
    stage.say(Finished(rounds=3, cluster=0, adapters=[]))
    assert me.result().updates == 1
    assert [plan.round for plan in learn.plans] == [1, 3]


def test_a_late_update_takes_the_place_of_the_next(url: str, stage: Stage, tmp_path: Path) -> None:
    """Round 1 closed without the device, but its update may come a round later: it is offered again in round 2, and
    round 2 is not trained for once it is committed."""
    learn = Learner()

    def slow(plan: RoundPlan) -> TrainedUpdate:
        if plan.round == 1:
            stage.say(RoundDone(round=1, accepted=False, updates=2))
            stage.say(start(2, late=1))
        return learn(plan)

    me = Me(url, tmp_path, slow)
    join(stage)
    stage.say(start(1, late=1))
    offer = stage.hear(Offer)
    assert stage.hear(Offer) == offer
    stage.take(offer)
    stage.say(RoundDone(round=2, accepted=True, updates=3))
    stage.say(start(3, late=1))
    last = stage.hear(Offer)
    assert last.round == 3
    stage.take(last)
    stage.say(Finished(rounds=3, cluster=0, adapters=[]))
    assert me.result().updates == 2
    assert [plan.round for plan in learn.plans] == [1, 3]


def test_a_late_update_that_is_refused_makes_room_for_the_next(url: str, stage: Stage, tmp_path: Path) -> None:
    learn = Learner()

    def slow(plan: RoundPlan) -> TrainedUpdate:
        if plan.round == 1:
            stage.say(RoundDone(round=1, accepted=False, updates=2))
            stage.say(start(2, late=1, stage="cluster", cluster=0))
        return learn(plan)

    me = Me(url, tmp_path, slow)
    join(stage)
    stage.say(start(1, late=1))
    late = stage.hear(Offer)
    stage.say(Refused(code="StaleUpdate", reason="Round 1 is closed.", about=late.manifest.sha256))
    while (offer := stage.hear(Offer)).round == 1:
        pass  # said again for the new round, before the refusal was heard
    stage.take(offer)
    stage.say(Finished(rounds=3, cluster=0, adapters=[]))
    assert me.result().updates == 1
    assert [plan.round for plan in learn.plans] == [1, 2]


def test_an_update_left_over_from_an_earlier_session_may_still_count(url: str, stage: Stage, tmp_path: Path) -> None:
    """The device was killed while it handed in round 1, and is back in round 2, in whose place it may come."""
    learn = Learner()
    leave_over(tmp_path, "offered")
    me = Me(url, tmp_path, learn)
    join(stage)
    stage.say(start(2, late=1))
    offer = stage.hear(Offer)
    assert offer.round == 1
    assert stage.take(offer) == b"left over"
    stage.say(Finished(rounds=3, cluster=0, adapters=[]))
    assert me.result().updates == 1
    assert learn.plans == []


@pytest.mark.parametrize(("left", "late"), [("offered", 0), ("refused", 1), ("committed", 1)])
def test_an_update_that_is_settled_or_too_old_makes_room(
    url: str, stage: Stage, tmp_path: Path, left: Any, late: int
) -> None:
    learn = Learner()
    leave_over(tmp_path, left)
    Me(url, tmp_path, learn)
    join(stage)
    stage.say(start(2, late=late))
    assert stage.hear(Offer).round == 2
    assert [plan.round for plan in learn.plans] == [2]


def test_that_an_update_counted_is_also_known_from_the_end_of_its_round(
    url: str, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_sdk.membership.rounds.machine.intervals.CONFIRM", 0.5)
    leave_over(tmp_path, "offered")
    me = Me(url, tmp_path, Learner())
    join(stage)
    stage.say(RoundDone(round=1, accepted=True, updates=2))
    stage.say(Finished(rounds=1, cluster=0, adapters=[]))
    assert me.result().updates == 1
    with closing(Home(tmp_path).journal()) as journal:
        assert journal.outbox
        assert journal.outbox.progress == "committed"


def test_updates_keep_to_the_bandwidth(url: str, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every chunk asks the pacer, which the settings gave its rate; a message does not."""
    rates: list[float | None] = []

    class Noted(Pacer):
        def __init__(self, rate: float | None) -> None:
            rates.append(rate)
            super().__init__(1e9)

    monkeypatch.setattr("edge_sdk.membership.line.connection.Pacer", Noted)
    me = Me(Settings(url=url, bandwidth=512_000), tmp_path, Learner())
    join(stage)
    stage.say(start())
    stage.take(stage.hear(Offer))
    stage.say(Finished(rounds=1, cluster=0, adapters=[]))
    me.result()
    assert rates == [512_000]


def test_a_forged_commitment_costs_no_update(
    url: str, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody signs `committed`: the coordinator asks an awaited device again, and the update is still there."""
    monkeypatch.setattr("edge_sdk.membership.rounds.machine.intervals.REPEAT", 0.05)
    learn = Learner()
    me = Me(url, tmp_path, learn)
    join(stage)
    stage.say(start())
    offer = stage.hear(Offer)
    stage.say(Committed(sha256=offer.manifest.sha256))
    while me.named("update_committed") == []:
        stage.hear(Hello)  # with which the device comes back
    stage.say(start())
    assert stage.take(stage.hear(Offer)) == to_bytes(Adapter(learn.adapter.layers, BASE_ID))
    assert len(learn.plans) == 1


def test_a_round_that_looks_like_the_last_one_is_another_round(url: str, stage: Stage, tmp_path: Path) -> None:
    """A round had no result, so that the next one starts from the same adapters, which are still on their way."""
    learn = Learner()
    Me(url, tmp_path, learn)
    join(stage)
    data = to_bytes(random_adapter(2))
    manifest = make_manifest(data, role="root", name="root")
    stage.silent = True
    stage.say(start(1, start=manifest))
    pull = stage.hear(Pull)
    stage.say(start(2, start=manifest))
    for chunk in Sender(data, manifest).on_pull(pull):
        stage.transport.publish(TOPICS.chunks("me", "down"), chunk)
    assert stage.hear(Offer).round == 2
