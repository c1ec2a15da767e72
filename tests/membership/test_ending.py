"""A device that dies when all has come and nothing is in its place yet, while its coordinator ends."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.adapter import to_bytes
from edge_sdk.errors import ConfigurationError, DeadlineExceeded, Rejected, UnknownFederation
from edge_sdk.membership.home import Home
from edge_sdk.transport.memory import MemoryBroker
from edge_sdk.wire.messages import Finished, Join, Offer, Refused, Welcome
from tests.coordinator.adapters import random_adapter
from tests.integration.coordinators import Coordinator, write_federation
from tests.integration.devices import Device
from tests.membership.stage import Learner, Me, Stage, join, start


@pytest.fixture
def broker() -> Iterator[MemoryBroker]:
    with MemoryBroker() as broker:
        yield broker


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def left_over(broker: MemoryBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A device that has fetched everything, and could put nothing in its place."""
    stage = Stage(broker.url)
    with monkeypatch.context() as patched:
        patched.setattr(Home, "_settle", full)
        me = Me(broker.url, tmp_path, Learner())
        join(stage)
        adapters = [
            stage.serve(random_adapter(3), "cluster", "cluster-2"),
            stage.serve(random_adapter(4), "cluster", "cluster-0"),
        ]
        stage.say(Finished(rounds=1, cluster=2, adapters=adapters))
        assert isinstance(me.error(), ConfigurationError)
    stage.online(online=False)
    return stage


def check(me: Me) -> None:
    result = me.result()
    assert (result.finished, result.cluster, set(result.adapters)) == (True, 2, {"cluster", "cluster-2", "cluster-0"})
    assert result.adapters["cluster"].read_bytes() == to_bytes(random_adapter(3))
    assert me.named("federation_ended")


def test_no_coordinator_is_needed_any_more(left_over: Stage, broker: MemoryBroker, tmp_path: Path) -> None:
    check(Me(broker.url, tmp_path, Learner(), answer=0.2))
    again = Me(broker.url, tmp_path, Learner(), answer=0.2)
    assert isinstance(again.error(), UnknownFederation), "all is in place: joining is joining again"


def test_nor_a_broker(left_over: Stage, tmp_path: Path) -> None:
    check(Me("mqtt://127.0.0.1:9", tmp_path, Learner(), answer=0.2))


def test_nor_one_that_says_it_is_there_and_answers_nothing(
    left_over: Stage, broker: MemoryBroker, tmp_path: Path
) -> None:
    left_over.online()
    check(Me(broker.url, tmp_path, Learner(), answer=0.2))


def test_what_has_not_come_whole_is_waited_for(left_over: Stage, broker: MemoryBroker, tmp_path: Path) -> None:
    me = Me(broker.url, tmp_path, Learner(), deadline=0.5)
    join(left_over)
    left_over.silent = True
    another = left_over.serve(random_adapter(5), "cluster", "cluster-1")
    left_over.say(Finished(rounds=2, cluster=1, adapters=[another]))
    assert isinstance(me.error(), DeadlineExceeded)
    left_over.online(online=False)
    assert isinstance(Me(broker.url, tmp_path, Learner(), answer=0.2).error(), UnknownFederation)


def test_a_federation_that_goes_on_is_taken_part_in(left_over: Stage, broker: MemoryBroker, tmp_path: Path) -> None:
    me = Me(broker.url, tmp_path, Learner())
    left_over.online(2)
    left_over.hear(Join)
    left_over.say(Welcome(round=1, rounds=2))
    left_over.say(start(2))
    left_over.hear(Offer)
    left_over.say(Refused(code="Revoked", reason="", about="join"))
    assert isinstance(me.error(), Rejected)
    assert not me.named("federation_ended")
    left_over.online(3, online=False)
    assert isinstance(Me(broker.url, tmp_path, Learner(), answer=0.2).error(), UnknownFederation)


def test_a_whole_federation(broker: MemoryBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`serve --once` ends when the device has confirmed all adapters; afterwards it finds nobody there."""
    path = write_federation(tmp_path, broker.url, rounds=1, devices=2)
    coordinator = Coordinator(path)
    with monkeypatch.context() as patched:
        patched.setattr(Home, "_settle", full)
        devices = [Device(number, broker.url, tmp_path / f"device-{number}").start() for number in range(2)]
        for device in devices:
            assert isinstance(device.join().error, ConfigurationError)
        coordinator.join()
    for number in range(2):
        device = Device(number, broker.url, tmp_path / f"device-{number}").start(answer=0.2).join()
        assert device.error is None
        assert device.result is not None
        assert device.result.finished
        assert set(device.result.adapters) == {"root"}
