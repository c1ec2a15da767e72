"""Re-clustering when tastes change, and newcomers between clusterings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coordinator import rounds
from coordinator.config import BaseModel
from coordinator.learning.cluster import Tastes
from coordinator.learning.sketches import Subspaces
from coordinator.methods.clustering import CLUSTERERS, MOST_DENSE, Crowd, Dense, Evidence, is_stale, margin, similarity
from coordinator.methods.clustering.drift import STALE, with_newcomers
from coordinator.methods.clustering.micro_clusters import coarse
from coordinator.simulation.federation import SimulatedDevice, simulate
from coordinator.store import MemorySketches
from edge_sdk.adapter import Share, concatenate, left_basis
from edge_sdk.adapter.algebra import Bases
from edge_sdk.membership import RoundPlan, TrainedUpdate
from edge_sdk.wire.messages import DeviceProfile
from tests.coordinator.adapters import BASE_ID, SLOTS, random_adapter
from tests.coordinator.federations import saved_and_loaded
from tests.coordinator.learners import Learner
from tests.coordinator.settings import federation_of

GROUPS = 3


class World:
    """Devices with tastes that may change, and the coordinator's clustering of them round by round."""

    def __init__(self, tastes: list[int], **changes: Any) -> None:
        self.tastes = {f"d{number:02}": taste for number, taste in enumerate(tastes)}
        settings = federation_of(clustering={"recluster": "drift", **changes})
        layers = {name: shape.out_features for name, shape in SLOTS.items()}
        subspaces = Subspaces(self._basis, layers, MemorySketches())
        self._clusters = Tastes(settings, self._profiles, subspaces)
        self.state = rounds.State()
        self.round = 0

    def turn(self) -> rounds.Clustered:
        """Cluster for the next round, then everybody trains in it."""
        self.round += 1
        known = self.state.devices
        devices = {name: known.get(name, rounds.Device(max_rank=4)) for name in self.tastes}
        action = rounds.Cluster(self.round, devices, self.state.next_cluster, self.state.margin)
        found = self._clusters.cluster(action)
        assert found == self._clusters.cluster(action), "the same action gives the same answer"
        member = rounds.Member(0, 4, None, 0, Share.BOTH)
        trained = {
            name: rounds.Device(
                max_rank=4,
                cluster=found.assignment[name],
                placed=name in found.placed,
                trace=rounds.Trace(f"{name}/{self.tastes[name]}/{self.round}", member),
            )
            for name in devices
        }
        above = max([self.state.next_cluster, *(c + 1 for c in found.assignment.values())])
        self.state = rounds.State(devices=trained, next_cluster=above, margin=found.margin)
        return found

    def _profiles(self) -> dict[str, DeviceProfile]:
        centres = np.random.default_rng(0).normal(size=(GROUPS, 24))
        found = {}
        for name, taste in self.tastes.items():
            own = np.random.default_rng(int(name[1:])).normal(size=24)
            code = (5 + centres[taste] + 0.2 * own).astype("<f4").tobytes()
            found[name] = DeviceProfile(base_id=BASE_ID, prompt_code=code, pictures=9, max_rank=4)
        return found

    def _basis(self, trace: rounds.Trace) -> Bases:
        name, taste, number = trace.update.split("/")
        noise = random_adapter(1000 * int(number) + int(name[1:]), 1)
        return left_basis(concatenate([(random_adapter(int(taste), 3), 1.0), (noise, 0.2)]))


def kept(found: rounds.Clustered) -> bool:
    return bool(found.figures["kept"])


def groups_of(world: World, found: rounds.Clustered) -> bool:
    """True if every taste has a cluster of its own."""
    pairs = {(taste, found.assignment[name]) for name, taste in world.tastes.items()}
    return len(pairs) == len({taste for taste, _ in pairs}) == len({cluster for _, cluster in pairs})


def test_stable_tastes_are_clustered_until_the_evidence_stops_growing() -> None:
    world = World([i % GROUPS for i in range(18)])
    found = [world.turn() for _ in range(8)]
    # w is 1, 1/2, 1/4 for the clusterings before rounds 1, 2, 3; from round 4 on, evidence is of one kind.
    assert [kept(one) for one in found] == [False, False, False, True, True, True, True, True]
    assert all(one.assignment == found[0].assignment for one in found)
    assert all(one.margin == found[2].margin for one in found[3:]), "the margin of the last clustering is remembered"
    assert groups_of(world, found[-1])


def test_by_default_every_round_is_clustered() -> None:
    world = World([i % GROUPS for i in range(18)], recluster="every")
    assert not any(kept(world.turn()) for _ in range(6))


@pytest.mark.parametrize("method", ["fused", "prompt", "adapter"])
def test_devices_that_change_their_taste_are_clustered_anew(method: str) -> None:
    world = World([i % GROUPS for i in range(18)], method=method)
    before = [world.turn() for _ in range(5)][-1]
    assert kept(before)
    moved = ["d00", "d03", "d06", "d09"]
    world.tastes |= dict.fromkeys(moved, 1)
    found = [world.turn() for _ in range(3)]  # codes change at once, adapters one round later
    assert not all(kept(one) for one in found)
    assert kept(found[-1])
    assert groups_of(world, found[-1])
    for name, cluster in found[-1].assignment.items():
        assert cluster == before.assignment["d01" if name in moved else name]


def test_a_single_device_that_changes_its_taste_does_not_move_everybody() -> None:
    world = World([i % GROUPS for i in range(36)])
    before = [world.turn() for _ in range(4)][-1]
    world.tastes["d00"] = 1
    assert all(kept(world.turn()) for _ in range(3))
    assert world.turn().assignment == before.assignment


def test_a_newcomer_joins_by_its_code_and_then_by_its_adapter() -> None:
    """Its prompts are of group 0, its pictures of group 1."""
    world = World([i % GROUPS for i in range(18)])
    before = [world.turn() for _ in range(4)][-1]
    world.tastes["d18"] = 0
    first = world.turn()
    assert kept(first)
    assert first.assignment["d18"] == before.assignment["d00"]
    assert first.placed == {"d18"}
    device = world.state.devices["d18"]
    assert device.trace is not None
    trained = rounds.Trace("d18/1/5", device.trace.member)
    changed = rounds.Device(max_rank=4, cluster=device.cluster, placed=device.placed, trace=trained)
    world.state = rounds.State(
        devices={**world.state.devices, "d18": changed},
        next_cluster=world.state.next_cluster,
        margin=world.state.margin,
    )
    second = world.turn()
    assert kept(second)
    assert second.assignment["d18"] == before.assignment["d01"]
    assert not second.placed


def test_many_devices_are_compared_coarsely_and_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself beyond `MOST_DENSE`; the clusters stay those that they are."""
    read: list[str] = []
    basis = World._basis

    def counted(world: World, trace: rounds.Trace) -> Bases:
        read.append(trace.update)
        return basis(world, trace)

    monkeypatch.setattr(World, "_basis", counted)
    world = World([i % GROUPS for i in range(MOST_DENSE + 44)])
    world.turn()
    assert not read
    found = [world.turn() for _ in range(4)]
    assert groups_of(world, found[-1])
    assert kept(found[-1])
    # `turn` asks twice, to see that the answer is the same; sketches of the first time are there the second time.
    assert len(read) == len(set(read)) == len(found) * len(world.tastes)


def test_a_single_cluster_is_looked_at_in_every_round() -> None:
    world = World([0] * 8)
    assert not any(kept(world.turn()) for _ in range(5))
    world.tastes |= {f"d{number:02}": 1 for number in range(4)}
    world.turn()
    assert groups_of(world, world.turn())


def test_the_state_survives_being_written_down() -> None:
    world = World([i % GROUPS for i in range(18)])
    for _ in range(3):
        world.turn()
    read = saved_and_loaded(world.state)
    assert read == world.state
    world.state = read
    assert kept(world.turn())


@pytest.mark.parametrize("compare", [lambda e, b: Dense(similarity(e, b)), coarse], ids=["dense", "coarse"])
class TestMargin:
    def crowd(self, compare: Any, truth: list[int]) -> Crowd:
        centres = np.random.default_rng(0).normal(size=(GROUPS, 24))
        codes = centres[truth] + 0.2 * np.random.default_rng(1).normal(size=(len(truth), 24))
        evidence = Evidence(codes, [None] * len(truth), 0)
        crowd: Crowd = compare(evidence, CLUSTERERS["prompt"]()(evidence))
        return crowd

    def test_is_large_for_the_true_clusters_and_small_for_others(self, compare: Any) -> None:
        truth = [i % GROUPS for i in range(30)]
        crowd = self.crowd(compare, truth)
        right, wrong = margin(crowd, truth), margin(crowd, [i // 10 for i in range(30)])
        assert right is not None
        assert wrong is not None
        assert right > 1.0 > 0.1 > wrong
        assert is_stale(right, wrong)
        assert not is_stale(right, right)
        assert margin(crowd, [4] * 30) is None

    def test_a_tenth_of_the_devices_in_the_wrong_cluster_is_stale(self, compare: Any) -> None:
        truth = [i % GROUPS for i in range(60)]
        crowd = self.crowd(compare, truth)
        moved = [(c + 1) % GROUPS if i < 7 else c for i, c in enumerate(truth)]
        assert is_stale(margin(crowd, truth), margin(crowd, moved))

    def test_newcomers_join_their_like(self, compare: Any) -> None:
        truth = [i % GROUPS for i in range(30)]
        crowd = self.crowd(compare, truth)
        known = [None if i in (3, 13, 29) else 7 * c for i, c in enumerate(truth)]
        assert with_newcomers(crowd, known) == [7 * c for c in truth]
        assert with_newcomers(crowd, truth) == truth
        with pytest.raises(ValueError, match="newcomers"):
            with_newcomers(crowd, [None] * 30)


def test_staleness_needs_a_margin() -> None:
    assert is_stale(None, 0.5)
    assert is_stale(0.5, None)
    assert is_stale(-0.1, 0.5)
    assert is_stale(1.0, 1.0 - STALE - 1e-6)
    assert not is_stale(1.0, 1.0 - STALE + 1e-6)


def test_a_whole_federation_whose_devices_change_taste() -> None:
    """Through the real rounds: from round 6 on, four of twelve devices learn what the other group learns.

    They leave those who stayed. They do not join the other group at once: on top of their old cluster's adapter they
    learn the difference between both tastes, which nobody else does.
    """
    learners = [Learner(number) for number in range(12)]
    turned = {0, 2, 4, 6}

    def device(learner: Learner) -> SimulatedDevice:
        def train(plan: RoundPlan) -> TrainedUpdate:
            turns = learner.number in turned and plan.round > 5
            return (Learner(learner.number + 101) if turns else learner).train(plan)

        return SimulatedDevice(learner.profile, train)

    settings = federation_of(
        rounds=9, root_rounds=1, rank=4, steps=20, learning_rate=0.05, interaction="none",
        clustering={"method": "adapter", "recluster": "drift", "choose": "eigengap"},
    )  # fmt: skip
    events: list[tuple[str, Any]] = []
    outcomes = simulate(
        settings,
        BaseModel(BASE_ID, SLOTS),
        {learner.name: device(learner) for learner in learners},
        lambda name, values: events.append((name, values)),
    )
    clusterings = [values for name, values in events if name == "clusters"]
    assert all(values["kept"] for values in clusterings[4:6])
    assert not all(values["kept"] for values in clusterings[6:])
    clusters = {learner.number: outcomes[learner.name].cluster for learner in learners}
    assert len({clusters[number] for number in turned}) == 1
    assert clusters[8] == clusters[10] != clusters[0]
    assert len({clusters[number] for number in range(1, 12, 2)}) == 1
