"""Deliveries of final adapters, whose Finished may come again while they are on their way."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.runner import Runner
from coordinator.store import Database
from coordinator.telemetry import Counters, Reports
from coordinator.transfers.deliveries import Deliveries
from edge_sdk.wire.messages import Finished
from tests.coordinator.federations import BASE_ID, DEVICES, deliver, joined, manifest, rules, started

ADAPTERS = [manifest("root", "root"), manifest("own", "cluster")]
FINISHED = Finished(rounds=1, cluster=0, adapters=ADAPTERS)


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    machine = started(rounds=1, root_rounds=0)
    deliver(machine, 1, *DEVICES)
    database = Database(f"sqlite:///{tmp_path / 'coordinator.sqlite'}", "stickers", BASE_ID)
    runner = Runner(rules(rounds=1, root_rounds=0), database, lambda: (0, 0))
    runner.replace(machine.state)
    return runner


def test_a_finished_that_is_repeated_asks_for_no_adapter_twice(runner: Runner) -> None:
    """A hello came while the second adapter was on its way, and the device never counted as served."""
    deliveries = Deliveries(runner, Reports(None, Counters(0, 0)))
    assert deliveries.begin("a1", FINISHED) is None
    deliveries.stored("a1", ADAPTERS[0])
    assert deliveries.begin("a1", FINISHED) is None
    deliveries.stored("a1", ADAPTERS[1])
    assert runner.state.devices["a1"].served


def test_in_a_new_session_all_are_acknowledged_anew(runner: Runner) -> None:
    deliveries = Deliveries(runner, Reports(None, Counters(0, 0)))
    deliveries.begin("a1", FINISHED)
    deliveries.stored("a1", ADAPTERS[0])
    runner.feed(joined("a1", epoch=2))
    deliveries.begin("a1", FINISHED)
    deliveries.stored("a1", ADAPTERS[1])
    assert not runner.state.devices["a1"].served
    deliveries.stored("a1", ADAPTERS[0])
    assert runner.state.devices["a1"].served
