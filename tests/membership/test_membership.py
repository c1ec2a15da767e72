"""A device against a coordinator that is played by the test, message by message."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from edge_sdk.adapter import Adapter, concatenate, distance, load, norm, to_bytes
from edge_sdk.errors import (
    AdapterMismatch,
    CoordinatorUntrusted,
    DeadlineExceeded,
    ImpastoError,
    MessageOutdated,
    Rejected,
    SignatureInvalid,
    TransportError,
    UnknownFederation,
)
from edge_sdk.membership import Membership, RoundPlan, TrainedUpdate
from edge_sdk.membership.connection import Link
from edge_sdk.membership.home import Home
from edge_sdk.transport import Settings, Transport, create
from edge_sdk.transport.bandwidth import Pacer
from edge_sdk.transport.embedded import EmbeddedBroker
from edge_sdk.wire import TrainingStats
from edge_sdk.wire.messages import (
    Committed,
    Finished,
    Hello,
    Join,
    Leave,
    Manifest,
    Message,
    Offer,
    Presence,
    Pull,
    Refused,
    RoundDone,
    SignedStep,
    Welcome,
    decode_step,
    encode,
)
from edge_sdk.wire.signing import Signer, fingerprint, new_key
from edge_sdk.wire.transfer import Sender, make_manifest
from tests.coordinator.adapters import BASE_ID, random_adapter
from tests.integration.devices import profile
from tests.membership.stage import TOPICS, Learner, Me, Stage, join, leave_over, start, trust


def test_one_round_then_home(url: str, stage: Stage, tmp_path: Path) -> None:
    learn = Learner()
    me = Me(url, tmp_path, learn)
    assert stage.hear(Presence).online
    join(stage)
    stage.say(start())
    offer = stage.hear(Offer)
    assert offer.round == 1
    assert offer.stats == TrainingStats(pictures=12, first_loss=1.0, last_loss=0.5, train_seconds=3.0)
    data = stage.take(offer)
    assert data == to_bytes(Adapter(learn.adapter.layers, BASE_ID))
    stage.say(RoundDone(round=1, accepted=True, updates=1))
    with_base = Adapter(random_adapter(2).layers, BASE_ID)
    root = stage.serve(with_base, "root", "root")
    own = stage.serve(random_adapter(3), "cluster", "cluster-2")
    other = stage.serve(random_adapter(4), "cluster", "cluster-0")
    stage.say(Finished(rounds=1, cluster=2, adapters=[root, own, other]))
    stage.hear(Leave)
    result = me.result()
    assert (result.finished, result.updates, result.cluster) == (True, 1, 2)
    assert set(result.adapters) == {"root", "cluster", "cluster-0", "cluster-2"}
    assert result.adapters["cluster"].read_bytes() == to_bytes(random_adapter(3))
    assert {stage.delivered.get(timeout=5).sha256 for _ in range(3)} == {root.sha256, own.sha256, other.sha256}
    assert not stage.hear(Presence).online


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


def test_the_plan_brings_frozen_and_start(url: str, stage: Stage, tmp_path: Path) -> None:
    learn = Learner()
    Me(url, tmp_path, learn)
    join(stage)
    root = stage.serve(random_adapter(2), "root", "root")
    cluster = stage.serve(random_adapter(3), "cluster", "cluster-1")
    stage.say(start(2, stage="cluster", cluster=1, frozen=[root], start=cluster))
    stage.hear(Offer)
    (plan,) = learn.plans
    assert (plan.round, plan.stage, plan.cluster, plan.rank, plan.seed, plan.steps) == (2, "cluster", 1, 4, 7, 5)
    assert distance(plan.frozen[0], random_adapter(2)) < 1e-5
    assert plan.start is not None
    assert distance(plan.start, random_adapter(3)) < 1e-5


def test_a_weak_device_starts_from_the_best_small_adapter(url: str, stage: Stage, tmp_path: Path) -> None:
    learn = Learner()
    Me(url, tmp_path, learn)
    join(stage)
    cluster = stage.serve(random_adapter(3), "cluster", "cluster-1")
    stage.say(start(rank=2, start=cluster))
    stage.hear(Offer)
    small = learn.plans[0].start
    assert small is not None
    assert small.rank == 2
    assert distance(small, random_adapter(3)) < 0.9 * norm(random_adapter(3))


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


def test_that_an_update_counted_is_also_known_from_the_end_of_its_round(url: str, stage: Stage, tmp_path: Path) -> None:
    leave_over(tmp_path, "offered")
    me = Me(url, tmp_path, Learner())
    join(stage)
    stage.say(RoundDone(round=1, accepted=True, updates=2))
    stage.say(Finished(rounds=1, cluster=0, adapters=[]))
    assert me.result().updates == 1
    with closing(Home(tmp_path).journal()) as journal:
        assert journal.outbox
        assert journal.outbox.progress == "committed"


def test_checkpoints_go_with_the_plans_that_they_belong_to(url: str, stage: Stage, tmp_path: Path) -> None:
    other = tmp_path / "training-0123.checkpoint"
    other.write_bytes(b"of another plan")
    learn = Learner()

    def train(plan: RoundPlan) -> TrainedUpdate:
        assert plan.checkpoint
        plan.checkpoint.write_bytes(b"unfinished")
        assert list(tmp_path.glob("training-*")) == [plan.checkpoint] != [other]
        return learn(plan)

    Me(url, tmp_path, train)
    join(stage)
    stage.say(start())
    stage.hear(Offer)
    assert list(tmp_path.glob("training-*")) == []


@pytest.mark.parametrize("damaged", [False, True])
def test_a_restarted_device_pulls_only_what_is_missing_unless_what_it_has_is_wrong(
    url: str, stage: Stage, tmp_path: Path, damaged: bool
) -> None:
    data = to_bytes(random_adapter(2))
    manifest = make_manifest(data, role="root", name="root", chunk_size=1024)
    stage.exchange.offer(data, manifest)
    with closing(Home(tmp_path).journal()) as journal:
        journal.resume(manifest)
        for number in range(manifest.chunks - 1):
            chunk = data[number * 1024 : (number + 1) * 1024]
            journal.keep_chunk(manifest.sha256, number, bytes(len(chunk)) if damaged else chunk)
    me = Me(url, tmp_path, Learner())
    join(stage)
    stage.say(Finished(rounds=1, cluster=0, adapters=[manifest]))
    assert stage.hear(Pull).credit == 1
    if damaged:
        assert stage.hear(Pull).credit == manifest.chunks
    assert me.result().adapters["root"].read_bytes() == data


def test_updates_keep_to_the_bandwidth(url: str, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every chunk asks the pacer, which the settings gave its rate; a message does not."""
    rates: list[float | None] = []

    class Noted(Pacer):
        def __init__(self, rate: float | None) -> None:
            rates.append(rate)
            super().__init__(1e9)

    monkeypatch.setattr("edge_sdk.membership.connection.Pacer", Noted)
    me = Me(Settings(url=url, bandwidth=512_000), tmp_path, Learner())
    join(stage)
    stage.say(start())
    stage.take(stage.hear(Offer))
    stage.say(Finished(rounds=1, cluster=0, adapters=[]))
    me.result()
    assert rates == [512_000]


def test_a_weak_device_may_train_on_top_of_what_its_rank_cannot_hold(url: str, stage: Stage, tmp_path: Path) -> None:
    learn = Learner()
    Me(url, tmp_path, learn)
    join(stage)
    cluster = stage.serve(random_adapter(3), "cluster", "cluster-1")
    stage.say(start(rank=2, start=cluster, keep_rest=True))
    stage.hear(Offer)
    (plan,) = learn.plans
    assert plan.start is not None
    assert plan.start.rank == 2
    assert distance(concatenate([(plan.start, 1.0), (plan.frozen[0], 1.0)]), random_adapter(3)) < 1e-5


def test_what_somebody_else_has_signed_is_not_heard(url: str, stage: Stage, tmp_path: Path) -> None:
    learn = Learner()
    me = Me(url, tmp_path, learn)
    join(stage)
    ours, stage.signer = stage.signer, Signer(new_key(), "tastes")
    stage.say(start(1, start=stage.serve(random_adapter(2), "cluster", "cluster-1")))
    stage.online(epoch=2)
    stage.signer, stage.epoch = ours, 1
    stage.say(start(2, start=stage.serve(random_adapter(3), "cluster", "cluster-1")))
    offer = stage.hear(Offer)
    assert offer.round == 2
    stage.take(offer)
    stage.say(Finished(rounds=1, cluster=0, adapters=[]))
    assert me.result().updates == 1
    assert [plan.round for plan in learn.plans] == [2]
    assert [event["code"] for event in me.named("step_refused")] == ["SignatureInvalid"]
    assert [event["code"] for event in me.named("coordinator_untrusted")] == ["CoordinatorUntrusted"]


FORGED: dict[str, tuple[str, Callable[[Stage], Message]]] = {
    "an end that nobody signed": ("SignatureInvalid", lambda stage: the_end()),
    "a round that nobody signed": ("SignatureInvalid", lambda stage: start(3, steps=2**31 - 1)),
    "an end under a signature of zeros": (
        "SignatureInvalid",
        lambda stage: SignedStep(epoch=7, step=encode(the_end()), signature=bytes(64)),
    ),
    "an end by somebody else": (
        "SignatureInvalid",
        lambda stage: Signer(new_key(), "tastes").signed(the_end(), "me", 7),
    ),
    "an end for another device": ("SignatureInvalid", lambda stage: stage.signer.signed(the_end(), "you", 7)),
    "an end of another federation": (
        "SignatureInvalid",
        lambda stage: Signer(bytes(32), "paintings").signed(the_end(), "me", 7),
    ),
    "a round that was made longer": ("SignatureInvalid", lambda stage: longer(stage.signer.signed(start(3), "me", 7))),
    "an end of an earlier life": ("MessageOutdated", lambda stage: stage.signer.signed(the_end(), "me", 6)),
    "an end that was moved to this life": (
        "SignatureInvalid",
        lambda stage: replace(stage.signer.signed(the_end(), "me", 6), epoch=7),
    ),
    "an earlier round of this life": ("MessageOutdated", lambda stage: stage.signer.signed(start(1), "me", 7)),
    "a welcome under a good signature": ("MessageInvalid", lambda stage: signed_welcome(stage.signer)),
}


def the_end() -> Finished:
    return Finished(rounds=3, cluster=0, adapters=[])


def longer(said: SignedStep) -> SignedStep:
    return replace(said, step=encode(replace(decode_step(said.step), steps=10**6)))


def signed_welcome(signer: Signer) -> SignedStep:
    return signer.signed(Welcome(round=0, rounds=3), "me", 7)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FORGED)
def test_forged_and_repeated_steps_change_nothing(url: str, stage: Stage, tmp_path: Path, name: str) -> None:
    """The adapters to draw with stay, above all."""
    code, forge = FORGED[name]
    Home(tmp_path)
    drawn_with = {tmp_path / f"{name}.safetensors": name.encode() for name in ("root", "cluster", "clusters/0")}
    for path, data in drawn_with.items():
        path.write_bytes(data)
    learn = Learner()
    me = Me(url, tmp_path, learn)
    stage.online(epoch=7)
    stage.hear(Join)
    stage.say(Welcome(round=0, rounds=3))
    stage.say(start(2))
    stage.take(stage.hear(Offer))
    stage.say_as_it_is(forge(stage))
    stage.say(start(3))
    assert stage.hear(Offer).round == 3
    assert [event["code"] for event in me.named("step_refused")] == [code]
    assert [(plan.round, plan.steps) for plan in learn.plans] == [(2, 5), (3, 5)]
    assert {path: path.read_bytes() for path in drawn_with} == drawn_with


def test_what_was_heard_is_remembered_by_the_next_session(url: str, stage: Stage, tmp_path: Path) -> None:
    """The broker may have kept old messages of the coordinator. A new message is another matter."""
    old = (
        stage.signer.state(online=True, epoch=6, base_id=BASE_ID, level="plain"),
        stage.signer.signed(the_end(), "me", 6),
    )
    me = Me(url, tmp_path, Learner(), rounds=1)
    stage.online(epoch=7)
    stage.hear(Join)
    stage.say(Welcome(round=0, rounds=3))
    stage.say(start(1))
    stage.take(stage.hear(Offer))
    stage.say(start(2))
    assert not me.result().finished
    stage.show(old[0])
    outdated = Me(url, tmp_path, Learner(), answer=0.5).error()
    assert isinstance(outdated, MessageOutdated)
    assert "start 6" in str(outdated)
    again = Me(url, tmp_path, Learner())
    stage.online(epoch=7)
    stage.hear(Join)
    stage.say(Welcome(round=1, rounds=3))
    stage.say_as_it_is(old[1])
    stage.say(start(1))
    stage.say(start(2))  # as it did before
    assert stage.hear(Offer).round == 2
    assert [event["code"] for event in again.named("step_refused")] == ["MessageOutdated"] * 2


def test_the_late_will_of_an_earlier_life_is_not_worth_a_word(url: str, stage: Stage, tmp_path: Path) -> None:
    me = Me(url, tmp_path, Learner())
    stage.online(epoch=7)
    stage.hear(Join)
    stage.say(Welcome(round=0, rounds=3))
    stage.show(stage.signer.state(online=False, epoch=6, base_id=BASE_ID, level="plain"))
    stage.say(start())
    stage.hear(Offer)
    assert me.named("coordinator_offline") == me.named("coordinator_untrusted") == []


@pytest.mark.parametrize("change", ["key", "online", "epoch", "base_id", "signature", "federation"])
def test_a_state_that_was_changed_is_not_believed(url: str, stage: Stage, tmp_path: Path, change: str) -> None:
    good = stage.signer.state(online=False, epoch=7, base_id=BASE_ID, level="plain")
    values = {
        "key": Signer(new_key(), "tastes").public,
        "online": True,
        "epoch": 8,
        "base_id": "c" * 64,
        "signature": bytes(64),
        "federation": "paintings",
    }
    stage.show(replace(good, **{"online": True, change: values[change]}))
    error = Me(url, tmp_path, Learner(), answer=0.5).error()
    assert isinstance(error, SignatureInvalid)
    with closing(Home(tmp_path).journal()) as journal:
        assert (journal.trusted_key, journal.heard) == (None, (0, 0))


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


def test_a_coordinator_of_another_key_is_not_joined(url: str, stage: Stage, tmp_path: Path) -> None:
    trust(tmp_path, bytes(range(32)))
    stage.online()
    error = Me(url, tmp_path, Learner(), answer=0.5).error()
    assert isinstance(error, CoordinatorUntrusted)
    assert "--trust" in str(error)


def test_a_key_that_was_left_behind_is_not_the_first_to_be_trusted(url: str, stage: Stage, tmp_path: Path) -> None:
    """A coordinator that is gone for ever may have left its state on the broker."""
    ours, stage.signer = stage.signer, Signer(new_key(), "tastes")
    stage.online(online=False)
    assert isinstance(Me(url, tmp_path, Learner(), answer=0.5).error(), UnknownFederation)
    stage.signer = ours
    me = Me(url, tmp_path, Learner())
    stage.online(epoch=2)
    stage.hear(Join)
    assert [event["key"] for event in me.named("coordinator_trusted")] == [fingerprint(ours.public)]


def test_a_key_that_the_trusted_one_vouches_for_is_trusted(url: str, stage: Stage, tmp_path: Path) -> None:
    old, stage.signer = stage.signer, Signer(new_key(), "tastes")
    trust(tmp_path, old.public)
    me = Me(url, tmp_path, Learner())
    stage.online(said=[old.succession(stage.signer.public)])
    stage.hear(Join)
    stage.say(Welcome(round=0, rounds=3))
    stage.say(Finished(rounds=1, cluster=0, adapters=[]))
    me.result()
    with closing(Home(tmp_path).journal()) as journal:
        assert journal.trusted_key == stage.signer.public


def test_being_told_a_former_key_again_forgets_nothing(url: str, stage: Stage, tmp_path: Path) -> None:
    """A device may be started with the same invitation every time, though the key in it was replaced meanwhile."""
    old, stage.signer = stage.signer, Signer(new_key(), "tastes")
    trust(tmp_path, old.public)
    me = Me(url, tmp_path, Learner(), rounds=1)
    stage.online(epoch=7, said=[old.succession(stage.signer.public)])
    stage.hear(Join)
    stage.say(Welcome(round=0, rounds=3))
    stage.say(start(1))
    stage.take(stage.hear(Offer))
    stage.say(start(2))
    me.result()
    trust(tmp_path, old.public)
    with closing(Home(tmp_path).journal()) as journal:
        assert (journal.trusted_key, journal.heard) == (old.public, (7, 2))
    trust(tmp_path, bytes(32))  # of a coordinator that was set up anew
    with closing(Home(tmp_path).journal()) as journal:
        assert (journal.trusted_key, journal.heard) == (bytes(32), (0, 0))


def test_a_restarted_coordinator_is_joined_again_and_offered_again(url: str, stage: Stage, tmp_path: Path) -> None:
    me = Me(url, tmp_path, Learner())
    join(stage)
    stage.say(start())
    offer = stage.hear(Offer)
    stage.online(epoch=2)
    stage.hear(Join)
    assert stage.hear(Offer) == offer
    stage.take(offer)
    stage.say(Finished(rounds=1, cluster=0, adapters=[]))
    assert me.result().updates == 1


def test_silence_ends_with_a_named_error(url: str, stage: Stage, tmp_path: Path) -> None:
    me = Me(url, tmp_path, Learner(), deadline=0.3)
    join(stage)
    error = me.error()
    assert isinstance(error, DeadlineExceeded)
    assert "did not go on" in str(error)


def test_being_welcomed_again_and_again_is_no_progress(
    url: str, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A coordinator that answers Join and every hello but never starts a round."""
    monkeypatch.setattr("edge_sdk.membership.rounds.machine.intervals.REPEAT", 0.05)
    monkeypatch.setattr("edge_sdk.membership.rounds.machine.intervals.LONGEST", 0.05)
    me, greeted = Me(url, tmp_path, Learner(), deadline=1.0), 0
    stage.online()
    while me.outcome.empty():
        try:
            message = stage.heard.get(timeout=0.1)
        except queue.Empty:
            continue
        if isinstance(message, Join | Hello):
            greeted += isinstance(message, Hello)
            stage.say(Welcome(round=0, rounds=3))
    assert isinstance(me.error(), DeadlineExceeded)
    assert greeted > 5


def test_leaving_early_waits_for_adapters_that_can_be_had(url: str, stage: Stage, tmp_path: Path) -> None:
    """The round that it would leave with is over before its adapters come. No adapter at home is lost meanwhile."""
    Home(tmp_path)
    for name in ("root", "cluster", "clusters/0"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"old")
    me = Me(url, tmp_path, Learner(), rounds=1)
    join(stage)
    stage.say(start(1))
    stage.take(stage.hear(Offer))
    stage.say(start(2, start=make_manifest(b"not served any more", role="root", name="root")))
    stage.hear(Join)
    assert (tmp_path / "root.safetensors").read_bytes() == b"old"
    stage.say(start(3, start=stage.serve(random_adapter(2), "root", "root")))
    assert set(me.result().adapters) == {"root"}
    assert (tmp_path / "root.safetensors").read_bytes() == to_bytes(random_adapter(2))
    assert (tmp_path / "cluster.safetensors").read_bytes() == b"old"


def test_more_adapters_than_are_fetched_at_once_come_home(
    url: str, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_sdk.membership.membership._MAX_ADAPTERS", int(1.5 * len(to_bytes(random_adapter(1)))))
    me = Me(url, tmp_path, Learner())
    join(stage)
    adapters = [stage.serve(random_adapter(1), "root", "root")]
    adapters += [stage.serve(random_adapter(2 + i), "cluster", f"cluster-{i}") for i in range(8)]
    stage.say(Finished(rounds=1, cluster=0, adapters=adapters))
    assert len(me.result().adapters) == 10
    assert me.named("transfer_failed") == []


def test_an_adapter_that_comes_late_is_kept(url: str, stage: Stage, tmp_path: Path) -> None:
    """The adapter comes when it is needed no more, and is needed again later: it is not sent twice."""
    me = Me(url, tmp_path, Learner())
    join(stage)
    late, data = random_adapter(2), to_bytes(random_adapter(2))
    manifest = make_manifest(data, role="root", name="root")
    stage.silent = True
    stage.say(start(1, start=manifest))
    pull = stage.hear(Pull)
    stage.say(start(2))
    stage.take(stage.hear(Offer))
    for chunk in Sender(data, manifest).on_pull(pull):
        stage.transport.publish(TOPICS.chunks("me", "down"), chunk)
    stage.hear(Committed)
    stage.say(Finished(rounds=2, cluster=0, adapters=[manifest]))
    assert distance(load(me.result().adapters["root"]), late) < 1e-5
    assert len(me.named("adapter_received")) == 1


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


def test_closing_does_not_wait_for_a_broker_that_is_away(tmp_path: Path) -> None:
    """The thread of `run`, which is about to send a message, does not wait either."""
    broker = EmbeddedBroker().start()
    stage, closed = Stage(broker.url), threading.Event()
    ended: list[BaseException] = []
    settings = Settings(url=broker.url, publish_deadline=3600)
    mine = Membership(settings, "tastes", "me", profile("apples", 0), tmp_path, Learner(), lambda event: None)

    def run() -> None:
        try:
            mine.run(deadline=60, answer=10)
        except ImpastoError as error:
            ended.append(error)

    def close() -> None:
        mine.close()
        closed.set()

    running = threading.Thread(target=run, daemon=True)
    running.start()
    join(stage)
    broker.stop()
    threading.Thread(target=close, daemon=True).start()
    assert closed.wait(60)
    running.join(60)
    (error,) = ended
    assert isinstance(error, DeadlineExceeded | TransportError), "nothing is said of the journal, which is closed"
    stage.transport.abort()


@pytest.mark.parametrize(("given", "expected"), [("", r"me[A-Za-z0-9]{16}"), ("the-thing", "the-thing")])
def test_its_client_id_is_random_unless_it_was_given_one(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, expected: str
) -> None:
    ids: list[str] = []

    def noted(settings: Settings) -> Transport:
        ids.append(settings.client_id)
        return create(settings)

    monkeypatch.setattr("edge_sdk.membership.connection.create", noted)
    for _ in range(2):
        Membership(
            Settings(url=url, client_id=given), "tastes", "me", profile("apples", 0), tmp_path, Learner()
        ).close()
    assert len(set(ids)) == (1 if given else 2)
    assert all(re.fullmatch(expected, client_id) for client_id in ids)


def test_no_answer_to_join(url: str, stage: Stage, tmp_path: Path) -> None:
    me = Me(url, tmp_path, Learner(), answer=0.3)
    stage.online()
    assert isinstance(me.error(), DeadlineExceeded)


def test_one_that_is_shut_out_goes_home_whatever_it_was_doing(url: str, stage: Stage, tmp_path: Path) -> None:
    me = Me(url, tmp_path, Learner())
    join(stage)
    stage.say(start())
    stage.hear(Offer)
    stage.say(Refused(code="Revoked", reason="Ask its operator.", about="join"))
    error = me.error()
    assert isinstance(error, Rejected)
    assert "Revoked" in str(error)


def test_an_adapter_of_another_base_model_is_not_trained_on(url: str, stage: Stage, tmp_path: Path) -> None:
    learn = Learner()
    me = Me(url, tmp_path, learn)
    join(stage)
    foreign = stage.serve(Adapter(random_adapter(2).layers, "c" * 64), "root", "root")
    stage.say(start(frozen=[foreign]))
    assert isinstance(me.error(), AdapterMismatch)
    assert learn.plans == []


def test_an_error_in_training_reaches_the_caller(url: str, stage: Stage, tmp_path: Path) -> None:
    def broken(plan: RoundPlan) -> TrainedUpdate:
        raise ZeroDivisionError("no pictures")

    me = Me(url, tmp_path, broken)
    join(stage)
    stage.say(start())
    assert isinstance(me.error(), ZeroDivisionError)


def test_garbage_changes_nothing(url: str, stage: Stage, tmp_path: Path) -> None:
    me = Me(url, tmp_path, Learner())
    join(stage)
    for payload in (b"", b"\xff\x00", b"x" * 131_072):
        stage.transport.publish(TOPICS.control("me", "down"), payload)
        stage.transport.publish(TOPICS.chunks("me", "down"), payload)
    stage.say(start())
    stage.take(stage.hear(Offer))
    stage.say(Finished(rounds=1, cluster=0, adapters=[]))
    assert me.result().updates == 1
