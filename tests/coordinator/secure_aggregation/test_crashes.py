"""Either side dies at any step, before or after it has saved its state: the sum is the same, or nothing comes of it."""

from __future__ import annotations

import itertools
from typing import Literal

import pytest

from edge_sdk.errors import JournalDamaged
from edge_sdk.secure_aggregation import Policy, device
from tests.secure_aggregation.world import World, terms

NAMES = ["a", "b", "c", "d"]


def sparse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small graphs be sparse, so that the seed of the ring is agreed on."""
    monkeypatch.setattr("edge_sdk.secure_aggregation.policy.COMPLETE_BELOW", 4)


def settle(world: World) -> None:
    """Let both sides begin again until the attempt is over."""
    for _ in range(10):
        if world.state.phase == "done":
            return
        world.restart()
        world.upload()
        if world.state.awaited and world.state.awaited <= world.gone:
            world.time_up()
    raise AssertionError(f"stuck in phase {world.state.phase}")


class Death:
    """Death of one side at its step with this number; counts the steps of each side."""

    def __init__(self, who: str, at: int, when: Literal["before", "after"]) -> None:
        self.who, self.at, self.when = who, at, when
        self.steps: dict[str, int] = {}

    def __call__(self, who: str) -> Literal["before", "after"] | None:
        number = self.steps.get(who, 0)
        self.steps[who] = number + 1
        return self.when if (who, number) == (self.who, self.at) else None


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("who", ["coordinator", "b"])
@pytest.mark.parametrize("graph", ["complete", "complete, one is lost", "ring"])
def test_one_side_dies_at_every_step(
    graph: str, who: str, when: Literal["before", "after"], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = Policy()
    names = NAMES
    if graph == "ring":
        sparse(monkeypatch)
        names, policy = (
            [f"d{number}" for number in range(9)] + ["b"],
            Policy(colluding=0, dropping=0.1, security_bits=1, failure_bits=1),
        )
    steps = 0
    for at in itertools.count():
        death = Death(who, at, when)
        world = World(names, terms(3, policy=policy), death)
        world.begin()
        lost = {"d"} if "lost" in graph else set()
        world.gone |= lost
        world.upload()
        settle(world)
        assert world.total is not None
        assert (world.total == world.expected()).all()
        there = {entry.device for entry in world.state.roster}
        assert set(world.task.uploads) == there - lost  # type: ignore[union-attr]
        assert world.error is None
        assert (world.state.given.neighbours < len(world.state.roster) - 1) == (graph == "ring")
        if death.steps[who] <= at:
            break
        steps += 1
    assert steps >= 4


def handed_in(death: Death) -> World:
    """A world whose devices have handed in their vectors, but for the one that dies."""
    world = World(NAMES, terms(3), death)
    world.begin()
    world.upload()
    return world


def test_a_device_that_died_after_its_answer_gives_the_same_one_and_no_other() -> None:
    """Its answer is in its journal before it is said."""
    world = handed_in(Death("b", 5, "after"))
    assert world.state.phase == "unmasking"
    answered = world.members["b"].state
    assert answered.phase == "answered"
    assert answered.answer == (b"\x0f", b"\x00")
    assert answered.held == {}
    assert answered.secrets is None
    settle(world)
    assert world.members["b"].state == answered


def test_a_device_that_died_after_its_consent_gives_the_same_one() -> None:
    world = handed_in(Death("b", 4, "after"))
    assert world.state.phase == "consenting"
    agreed = world.members["b"].state
    assert agreed.phase == "consented"
    assert agreed.answer == (b"\x0f", b"\x00")
    assert agreed.held
    settle(world)
    assert world.members["b"].state.answer == agreed.answer


def test_a_damaged_record_is_named() -> None:
    record = device.record_of(device.State())
    assert device.restored(record) == device.State()
    for damaged in (b"", record[:-3], b"\xff" + record[1:]):
        with pytest.raises(JournalDamaged, match="record of a masked sum is damaged"):
            device.restored(damaged)
