"""A device says what it waits for, and why: with real brokers that go, come back, and refuse."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.adapter import Adapter, Factors
from edge_sdk.errors import (
    AccessDenied,
    BrokerSettingsInvalid,
    BrokerUnreachable,
    ConfigurationError,
    DeadlineExceeded,
    PayloadTooLarge,
    UnknownFederation,
)
from edge_sdk.membership import Membership, RoundPlan, TrainedUpdate
from edge_sdk.transport import Settings, Will
from edge_sdk.transport.memory import MemoryBroker
from edge_sdk.wire import plan_id
from edge_sdk.wire.invitation import Invitation
from edge_sdk.wire.messages import CHUNK_HEADER, Finished, Hello, Join, Manifest, Offer, RoundStart, Welcome
from edge_sdk.wire.transfer import LEAST_PAYLOAD, check_room, fitting_chunk, make_manifest, refitted
from tests.coordinator.adapters import random_adapter
from tests.integration.devices import profile
from tests.membership.stage import Learner, Me, Stage, start
from tests.transport.brokers import Mosquitto, free_port, quick

DEADLINE = 60.0


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short silence is one already."""
    monkeypatch.setattr("edge_sdk.membership.rounds.machine.intervals.REPEAT", 0.2)
    monkeypatch.setattr("edge_sdk.membership.rounds.machine.intervals.LONGEST", 0.2)
    monkeypatch.setattr("edge_sdk.membership.runner.SILENCE", 0.2)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    (tmp_path / "broker").mkdir()
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


def large_learner() -> Learner:
    """Its updates have 64 KB."""
    numbers = np.random.default_rng(1)
    name = next(iter(random_adapter(1).layers))
    learner = Learner()
    a, b = numbers.normal(size=(4, 2000)).astype("f4"), numbers.normal(size=(2000, 4)).astype("f4")
    learner.adapter = Adapter({name: Factors(a, b)})
    return learner


def join(stage: Stage) -> None:
    stage.online()
    stage.hear(Join)
    stage.say(Welcome(round=0, rounds=3))


def test_why_the_broker_cannot_be_reached_is_told_and_raised(tmp_path: Path) -> None:
    url = f"mqtt://127.0.0.1:{free_port()}"
    me = Me(quick(url), tmp_path, Learner(), answer=0.5)
    error = me.error()
    assert isinstance(error, BrokerUnreachable)
    assert "Nothing listens" in str(error)
    assert "Nothing listens" in me.told("broker_unreachable")["reason"]


def test_what_is_waited_for_between_rounds_is_told_and_ends_by_name(broker: Mosquitto, tmp_path: Path) -> None:
    stage = Stage(broker.url)
    me = Me(quick(broker.url), tmp_path, Learner(), deadline=1.0)
    join(stage)
    waiting = me.told("waiting")
    assert "the coordinator starts one when enough devices are there" in waiting["what"]
    assert waiting["seconds"] >= 0.2
    assert 0 <= waiting["left"] <= 1
    error = me.error()
    assert isinstance(error, DeadlineExceeded)
    assert "did not go on within 1 s" in str(error)
    stage.transport.close()


def test_a_broker_that_goes_and_comes_back_is_told_by_the_device(broker: Mosquitto, tmp_path: Path) -> None:
    stage = Stage(quick(broker.url))
    me = Me(quick(broker.url), tmp_path, Learner())
    join(stage)
    me.told("joined")
    broker.stop()
    assert "127.0.0.1" in me.told("broker_lost")["reason"]
    assert "Nothing listens" in me.told("broker_unreachable")["reason"]
    while (waiting := me.told("waiting"))["what"] != "the broker to be back":
        time.sleep(0.01)
    assert "Nothing listens" in waiting["trouble"]
    broker.start()
    me.told("broker_back")
    stage.online(epoch=2)
    stage.hear(Join)
    stage.say(Finished(rounds=1, cluster=0, adapters=[]))
    assert me.result().finished
    stage.transport.close()


def test_a_broker_that_stays_away_is_the_reason_that_is_raised(broker: Mosquitto, tmp_path: Path) -> None:
    stage = Stage(broker.url)
    me = Me(quick(broker.url), tmp_path, Learner(), deadline=5.0)
    join(stage)
    me.told("joined")
    broker.stop()
    error = me.error()
    assert isinstance(error, DeadlineExceeded)
    assert "There is no connection to the broker" in str(error)
    assert "Nothing listens" in str(error)
    stage.transport.close()


def test_a_coordinator_that_ends_without_a_word_is_told(broker: Mosquitto, tmp_path: Path) -> None:
    """The broker may have lost its will. Before, the device waited until its own deadline, and was told that other
    devices were missing."""
    stage = Stage(broker.url)
    me = Me(quick(broker.url), tmp_path, Learner(), deadline=3.0)
    join(stage)
    stage.transport.close()
    error = me.error()
    assert isinstance(error, DeadlineExceeded)
    assert "did not go on within 3 s" in str(error)
    assert re.search(r"nothing else was heard of it for \d s: it may have ended without a word", str(error))
    troubles = [event["trouble"] for event in me.named("waiting")]
    assert any("the coordinator has not answered for" in trouble for trouble in troubles)


def test_one_that_answers_is_not_suspected(broker: Mosquitto, tmp_path: Path) -> None:
    stage = Stage(broker.url)
    me = Me(quick(broker.url), tmp_path, Learner(), deadline=2.0)
    join(stage)
    for _ in range(5):
        stage.hear(Hello)
        stage.say(Welcome(round=0, rounds=3))
    error = me.error()
    assert not any(event["trouble"] for event in me.named("waiting")[:1])
    assert isinstance(error, DeadlineExceeded)
    stage.transport.close()


def test_where_nobody_shows_himself_the_rules_are_named(broker: Mosquitto, tmp_path: Path) -> None:
    error = Me(quick(broker.url), tmp_path, Learner(), answer=0.3).error()
    assert isinstance(error, UnknownFederation)
    assert "impasto doctor" in str(error)


FORBIDDEN = {"state": "state", "messages": "up/control", "chunks": "up/chunk"}


@pytest.mark.parametrize("topic", FORBIDDEN.values(), ids=FORBIDDEN)
def test_a_topic_that_the_rules_forbid_is_told_and_raised_by_name(tmp_path: Path, topic: str) -> None:
    """Before, the error was that the coordinator did not answer, or did not take the update."""
    allowed = "".join(f"topic write impasto/1/tastes/dev/me/{t}\n" for t in FORBIDDEN.values() if t != topic)
    acl = tmp_path / "acl"
    acl.write_text(f"topic read impasto/#\n{allowed}user stage\ntopic readwrite impasto/#\n", "utf-8")
    with Mosquitto(tmp_path, f"acl_file {acl}") as broker:
        stage = Stage(Settings(broker.url, username="stage"))
        stage.online()
        me = Me(quick(broker.url), tmp_path / "home", Learner(), answer=20.0)
        if topic == "up/chunk":
            join(stage)
            stage.say(start())
            stage.take_in_vain(stage.hear(Offer))
        error = me.error()
        assert isinstance(error, AccessDenied)
        assert f"on impasto/1/tastes/dev/me/{topic}: Not authorized" in str(error)
        assert "Let users without a name publish there" in str(error)
        assert "samples/broker/acl" in str(error)
        refused = me.told("broker_refused")
        assert (refused["code"], refused["reason"]) == (AccessDenied.__name__, str(error))
        stage.transport.close()


@pytest.mark.parametrize("limit", [6000, 20000])
def test_chunks_fit_the_limit_that_a_broker_states(tmp_path: Path, limit: int) -> None:
    with Mosquitto(tmp_path, f"max_packet_size {limit}") as broker:
        stage = Stage(broker.url)
        me = Me(quick(broker.url), tmp_path / "home", large_learner())
        join(stage)
        stage.say(start())
        offer = stage.hear(Offer)
        assert offer.manifest.chunk_size == limit - 266 - CHUNK_HEADER
        assert offer.manifest.chunks > 1
        stage.take(offer)
        stage.say(Finished(rounds=1, cluster=0, adapters=[]))
        assert me.result().updates == 1
        stage.transport.close()


@pytest.mark.parametrize(("limit", "code", "words"), [(3000, 64, "at least 4096"), (8000, 16384, "Joining takes")])
def test_a_broker_that_lets_too_little_through_is_refused_at_joining(
    tmp_path: Path, limit: int, code: int, words: str
) -> None:
    with Mosquitto(tmp_path, f"max_packet_size {limit}") as broker:
        prompt = np.ones(code // 4, "<f4").tobytes()
        wide = profile("apples", 0, prompt_code=prompt)
        with (
            Membership(broker.url, "tastes", "me", wide, tmp_path / "home", Learner()) as me,
            pytest.raises(PayloadTooLarge, match=words),
        ):
            me.run()


def test_a_chunk_that_is_refused_without_a_stated_limit_ends_the_run(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, "message_size_limit 5000") as broker:
        stage = Stage(broker.url)
        me = Me(quick(broker.url), tmp_path / "home", large_learner())
        join(stage)
        stage.say(start())
        stage.take_in_vain(stage.hear(Offer))
        error = me.error()
        assert isinstance(error, PayloadTooLarge)
        assert "Packet too large" in str(error)
        assert me.told("broker_refused")["code"] == "PayloadTooLarge"
        stage.transport.close()


def test_a_training_is_interrupted_by_nothing_and_told_after(broker: Mosquitto, tmp_path: Path) -> None:
    """Events come in the thread of `run`, so that their receiver needs no lock."""
    stage = Stage(quick(broker.url))
    plain = Learner()

    def learn(plan: RoundPlan) -> TrainedUpdate:
        broker.stop()
        broker.start()
        return plain(plan)

    me = Me(quick(broker.url), tmp_path, learn)
    join(stage)
    stage.say(start())
    me.told("broker_lost")
    stage.online(epoch=2)
    stage.take(stage.hear(Offer))
    names = [event["event"] for event in me.events]
    assert names.index("trained") < names.index("broker_lost")
    stage.say(Finished(rounds=1, cluster=0, adapters=[]))
    assert me.result().updates == 1
    stage.transport.close()


# --- what would have no effect ------------------------------------------------------------------------------------


def member(tmp_path: Path, settings: str | Settings, **values: Any) -> Membership:
    return Membership(settings, "tastes", "me", profile("apples", 0), tmp_path, Learner(), **values)


def test_settings_that_would_have_no_effect_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokerSettingsInvalid, match="without a user name"):
        member(tmp_path, "mqtt://:secret@127.0.0.1")
    with pytest.raises(ConfigurationError, match="will of its own"):
        member(tmp_path, Settings("mqtt://127.0.0.1", will=Will("a", b"")))
    invitation = Invitation("tastes", "me", bytes(32), bytes(16))
    with pytest.raises(ConfigurationError, match="names another key"):
        member(tmp_path, "mqtt://127.0.0.1", invitation=invitation, trust=bytes(31) + b"1")
    assert "secret" not in repr(Invitation("tastes", "me", bytes(32), b"secret" + bytes(10)))
    assert "secret" not in repr(Join(profile=profile("apples", 0), invitation=b"secret"))


def test_callbacks_that_are_given_are_called(broker: Mosquitto, tmp_path: Path) -> None:
    states: list[bool] = []
    errors: list[str] = []
    given = quick(broker.url, on_connection=states.append, on_trouble=lambda error: errors.append(str(error)))
    stage = Stage(quick(broker.url))
    me = Me(given, tmp_path, Learner())
    join(stage)
    me.told("joined")
    broker.stop()
    me.told("broker_unreachable")
    broker.start()
    me.told("broker_back")
    assert states == [False, True]
    assert "Nothing listens" in errors[0]
    stage.online(epoch=2)
    stage.hear(Join)
    stage.say(Finished(rounds=1, cluster=0, adapters=[]))
    me.result()
    stage.transport.close()


# --- chunks -------------------------------------------------------------------------------------------------------


def test_the_size_of_chunks() -> None:
    assert [fitting_chunk(size) for size in (100, 5000, 10**9)] == [1024, 5000 - CHUNK_HEADER, 131072 - CHUNK_HEADER]
    manifest = make_manifest(bytes(10**6), "root", "root")
    assert refitted(manifest, 131072) == manifest
    small = refitted(manifest, 5000)
    assert (small.chunk_size, small.sha256, small.size, small.chunks) == (5000, manifest.sha256, 10**6, 200)
    check_room(LEAST_PAYLOAD)
    with pytest.raises(PayloadTooLarge, match="max_packet_size"):
        check_room(LEAST_PAYLOAD - 1)


def test_a_plan_is_the_same_whatever_the_broker_lets_through() -> None:
    def plan(chunk: int) -> RoundStart:
        manifests: list[Manifest] = [make_manifest(bytes([n]) * 5000, "root", "root", chunk) for n in range(2)]
        return start(frozen=manifests[:1], start=manifests[1])

    assert plan_id("tastes", plan(1024)) == plan_id("tastes", plan(4096))


def test_a_memory_broker_with_little_room(tmp_path: Path) -> None:
    with MemoryBroker(max_payload=3000) as small, member(tmp_path, small.url) as me, pytest.raises(PayloadTooLarge):
        me.run()
