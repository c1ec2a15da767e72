"""The progress of masked sums, as an operator sees it: how many vectors have come, and who is waited for."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from coordinator.rounds import Tick, awaited, sums_of
from coordinator.telemetry import print_status, print_waiting
from coordinator.telemetry.broker import Glance
from edge_sdk.secure_aggregation import Consents, FromCoordinator, Roster, UnmaskRequest
from tests.coordinator.federations import Machine
from tests.coordinator.summing import FOUR, opened, stopped_at


def shown(machine: Machine) -> str:
    out = io.StringIO()
    console = Console(file=out, width=200)
    print_status(console, "tastes", machine.state, {"a1": 3})
    print_waiting(console, awaited(machine.rules, machine.state, machine.now), Glance("mqtt://x", online=True))
    return out.getvalue()


def test_devices_that_are_trained() -> None:
    machine, members = opened(*FOUR)
    members.train("a1", "b2")
    said = shown(machine)
    assert "masked sum: 2 of 4 devices are trained" in said
    assert "waiting for updates of a2, b1: 2 are there" in said


@pytest.mark.parametrize(
    ("kind", "progress", "wait"),
    [
        (Roster, "0 of 4 devices have sent keys", "a1, a2, b1, b2 in a masked sum: 0 have answered, 3 are enough"),
        (
            UnmaskRequest,
            "4 masked vectors have come, 0 of 4 devices agree to the sum",
            "a1, a2, b1, b2 in a masked sum: 0 have answered, 3 are enough",
        ),
        (
            Consents,
            "4 masked vectors have come, 0 of 4 devices have helped to unmask the sum",
            "a1, a2, b1, b2 in a masked sum: 0 have answered, 3 are enough",
        ),
    ],
)
def test_a_sum_that_waits_for_its_devices(kind: type[FromCoordinator], progress: str, wait: str) -> None:
    said = shown(stopped_at(kind)[0])
    assert f"masked sum: {progress}" in said
    assert f"waiting for {wait}" in said


def test_how_many_vectors_have_come_and_nothing_about_them() -> None:
    machine, members = opened(*FOUR)
    members.holding = {"b2"}
    members.train()
    said = shown(machine)
    assert "masked sum: 3 of 4 masked vectors have come" in said
    assert "waiting for b2 in a masked sum: 3 have answered, 3 are enough" in said
    assert machine.state.current is not None
    for vector in machine.state.current.sums[0].uploads.values():
        assert vector not in said
    (row,) = (line for line in said.splitlines() if " a1 " in line)
    assert "3" in row, "counted updates, of earlier rounds"


def test_a_sum_that_is_computed_and_one_that_is_abandoned() -> None:
    machine, members = opened(*FOUR)
    machine.answers = False
    members.train()
    assert "masked sum: the sum of 4 masked vectors is computed" in shown(machine)
    machine, members = opened("a1", "a2", "a3", "b1", "b2", "b3", root_rounds=0)
    members.deaf_to = Roster
    members.train("a1", "a2", "a3")
    machine.now = 30.0
    machine(Tick())
    assert [one.phase for one in sums_of(machine.state)] == ["abandoned", "advertising"]
    said = shown(machine)
    assert "masked sum for cluster 0: abandoned (TooFewDevices: 0 of 3 devices have sent shares" in said
    assert "masked sum for cluster 1: 0 of 3 devices are trained" in said


def test_a_round_without_masks_has_no_sums() -> None:
    machine, _ = opened(*FOUR, masking=None)
    assert sums_of(machine.state) == []
    assert "masked" not in shown(machine)
