"""A device against a coordinator that is played by the test, message by message."""

from __future__ import annotations

import queue
import re
import threading
from contextlib import closing
from pathlib import Path

import pytest

from edge_sdk.adapter import Adapter, concatenate, distance, load, norm, to_bytes
from edge_sdk.errors import (
    AdapterMismatch,
    DeadlineExceeded,
    ImpastoError,
    Rejected,
    TransportError,
)
from edge_sdk.membership import Membership, RoundPlan, TrainedUpdate
from edge_sdk.membership.home import Home
from edge_sdk.transport import Settings, Transport, create
from edge_sdk.transport.embedded import EmbeddedBroker
from edge_sdk.wire import TrainingStats
from edge_sdk.wire.messages import (
    Committed,
    Finished,
    Hello,
    Join,
    Leave,
    Offer,
    Presence,
    Pull,
    Refused,
    RoundDone,
    Welcome,
)
from edge_sdk.wire.transfer import Sender, make_manifest
from tests.coordinator.adapters import BASE_ID, random_adapter
from tests.integration.devices import profile
from tests.membership.stage import TOPICS, Learner, Me, Stage, join, start


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


def test_closing_does_not_wait_for_a_broker_that_is_away(tmp_path: Path) -> None:
    """The thread of `run`, which is about to send a message, does not wait either."""
    broker = EmbeddedBroker().start()
    stage, closed = Stage(broker.url), threading.Event()
    ended: list[BaseException] = []
    settings = Settings(url=broker.url, publish_deadline=3600)
    mine = Membership(settings, "tastes", "me", profile("apples", 0), tmp_path, Learner(), lambda event: None)

    def run() -> None:
        try:
            mine.run(deadline=60, answer=3)
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

    monkeypatch.setattr("edge_sdk.membership.line.connection.create", noted)
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
