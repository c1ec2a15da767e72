"""Births and deaths of devices' sessions whose clocks or cards are not what they should be."""

from __future__ import annotations

import pytest

from coordinator.rounds import Device, Joined, Report, Seen
from tests.coordinator.federations import Machine, profile, started

IN_1970, IN_2026 = 60, 1_780_000_000


def born(machine: Machine, epoch: int) -> None:
    machine(Seen("a1", True, epoch), Joined("a1", profile()))


def device(machine: Machine) -> Device:
    return machine.state.devices["a1"]


def told(machine: Machine) -> list[str]:
    return [action.event for action in machine.actions if isinstance(action, Report)]


def test_a_device_whose_home_and_clock_are_lost_is_not_taken_for_dead() -> None:
    machine = started()
    born(machine, IN_2026)
    born(machine, IN_1970)  # it was switched off, lost its card, and began in 1970
    assert device(machine).epoch == IN_1970
    machine(Seen("a1", False, IN_2026))  # the broker notices only now, and publishes the will of the old session
    assert device(machine).until is None
    machine(Seen("a1", True, IN_1970))
    assert device(machine).until is None
    machine(Seen("a1", False, IN_1970))
    assert device(machine).until is not None, "its own death is one"


def test_so_are_its_next_sessions_and_then_one_whose_clock_is_right() -> None:
    machine = started()
    born(machine, IN_2026)
    for epoch in (IN_1970, IN_1970 + 1, IN_2026 + 5):
        born(machine, epoch)
        assert device(machine).epoch == epoch
        machine(Seen("a1", False, IN_2026))
        assert device(machine).until is None


def test_a_birth_is_believed_whatever_its_epoch() -> None:
    machine = started()
    born(machine, IN_2026)
    machine(Seen("a1", False, IN_2026))
    assert device(machine).until is not None
    machine(Seen("a1", True, IN_1970))
    assert device(machine).until is None
    before = machine.state
    machine(Seen("a1", True, IN_1970), Seen("a1", False, IN_2026))
    assert machine.state == before, "what is said again, and what is over, need not be saved"


def test_a_session_that_began_while_nobody_coordinated() -> None:
    machine = started()
    born(machine, IN_2026)
    machine(Seen("a1", False, IN_2026 + 7))  # born and dead since
    assert device(machine).until is not None


@pytest.mark.parametrize(("epochs", "doubled"), [((5, 6, 5), True), ((5, 6, 6), False), ((5, 5, 5), False)])
def test_two_devices_with_one_identity_are_told(epochs: tuple[int, ...], doubled: bool) -> None:
    """A session that was followed by another is back: both are alive."""
    machine = started()
    for epoch in epochs[:-1]:
        born(machine, epoch)
    machine(Seen("a1", True, epochs[-1]))
    assert ("device_doubled" in told(machine)) == doubled


def test_but_not_one_that_was_away() -> None:
    machine = started()
    born(machine, 5)
    born(machine, 6)
    machine(Seen("a1", False, 6))
    machine(Seen("a1", True, 5))
    assert "device_doubled" not in told(machine)
