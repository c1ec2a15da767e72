"""IFCA through real aggregation: devices that choose by loss find their groups, and pay for it in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from coordinator.config import BaseModel, Federation
from coordinator.simulation.federation import Outcome, SimulatedDevice, simulate
from coordinator.simulation.ifca import ChoosingDevice, simulate_ifca
from edge_sdk.adapter import Adapter, Factors, concatenate, distance, to_bytes
from edge_sdk.errors import ConfigurationError
from edge_sdk.membership import RoundPlan, TrainedUpdate
from tests.coordinator.adapters import BASE_ID, SLOTS
from tests.coordinator.learners import GROUPS, Learner
from tests.coordinator.settings import federation_of

BASE = BaseModel(BASE_ID, SLOTS)
LEARNERS = [Learner(number) for number in range(6)]


def federation(**changes: Any) -> Federation:
    values = {
        "name": "tastes", "slots": "impasto.json", "rounds": 7, "root_rounds": 1, "rank": 4, "steps": 60,
        "learning_rate": 0.05, "interaction": "none", "clustering": {"method": "ifca", "clusters": GROUPS},
        **changes,
    }  # fmt: skip
    return federation_of(**values)


def choosing(learner: Learner) -> ChoosingDevice:
    def choose(models: Sequence[Adapter], frozen: Sequence[Adapter]) -> int:
        under = [(adapter, 1.0) for adapter in frozen]
        losses = [distance(concatenate([(model, 1.0), *under]), learner.lesson) for model in models]
        return losses.index(min(losses))

    return ChoosingDevice(learner.profile, learner.train, choose)


def run(settings: Federation) -> tuple[dict[str, Outcome], list[tuple[str, Any]]]:
    events: list[tuple[str, Any]] = []
    devices = {learner.name: choosing(learner) for learner in LEARNERS}
    return simulate_ifca(settings, BASE, devices, lambda event, values: events.append((event, values))), events


@pytest.mark.parametrize("method", ["product", "fedit", "flexlora"])
def test_devices_find_their_groups(method: str) -> None:
    outcomes, events = run(federation(aggregation=method))
    found = [{outcomes[o.name].cluster for o in LEARNERS if o.group == group} for group in range(GROUPS)]
    assert all(len(clusters) == 1 for clusters in found)
    assert found[0] != found[1]
    for learner in LEARNERS:
        adapters = outcomes[learner.name].adapters
        assert learner.error([adapters["root"], adapters["cluster"]]) < 0.6
    assert [values["round"] for event, values in events if event == "clusters"] == [2, 3, 4, 5, 6, 7]
    assert [values["updates"] for event, values in events if event == "round_closed"] == [6] * 7


def test_every_model_goes_down_in_every_round() -> None:
    """The coordinator's own clustering sends one of them; IFCA sends K - 1 more in each cluster round."""
    settings = federation()
    chosen, _ = run(settings)
    devices = {learner.name: SimulatedDevice(learner.profile, learner.train) for learner in LEARNERS}
    sent = simulate(federation(clustering={"clusters": GROUPS}), BASE, devices)
    name = LEARNERS[0].name
    size = BASE.update_size(4) - 1024 * (len(SLOTS) + 64)  # of the factors; a file has a header besides
    assert chosen[name].bytes_up == pytest.approx(sent[name].bytes_up, rel=0.01)
    cluster_rounds = settings.rounds - settings.root_rounds
    # The coordinator's own first cluster round starts from an initialisation that nobody sends.
    more = chosen[name].bytes_down - sent[name].bytes_down
    assert more >= ((GROUPS - 1) * (cluster_rounds - 1) + GROUPS) * size


def test_a_model_that_nobody_chooses_stays() -> None:
    devices = {learner.name: ChoosingDevice(learner.profile, learner.train, lambda m, f: 0) for learner in LEARNERS}
    few = simulate_ifca(federation(rounds=2), BASE, devices)
    more = simulate_ifca(federation(rounds=3), BASE, devices)
    one, other = (outcomes["device-0"].adapters for outcomes in (few, more))
    assert to_bytes(one["cluster-1"]) == to_bytes(other["cluster-1"])
    assert distance(one["cluster-0"], other["cluster-0"]) > 0.0


def test_the_same_seed_gives_the_same_outcome() -> None:
    first, second = run(federation(rounds=3))[0], run(federation(rounds=3))[0]
    for name, outcome in first.items():
        assert to_bytes(outcome.adapters["cluster"]) == to_bytes(second[name].adapters["cluster"])
        assert (outcome.cluster, outcome.bytes_down) == (second[name].cluster, second[name].bytes_down)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"clustering": "ifca"}, "set clusters to it"),
        ({"clustering": "fused"}, "for IFCA set method to 'ifca'"),
        ({"aggregation": "fedsa", "root_rounds": 0}, r"\[aggregation\] method = 'fedsa'"),
        ({"aggregation": "flora"}, r"\[aggregation\] method = 'flora'"),
    ],
)
def test_errors_name_the_key(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        run(federation(**changes))


def test_a_choice_must_be_one_of_the_models() -> None:
    devices = {"device-0": ChoosingDevice(LEARNERS[0].profile, LEARNERS[0].train, lambda m, f: 5)}
    with pytest.raises(ValueError, match="chose model 5"):
        simulate_ifca(federation(), BASE, devices)
    with pytest.raises(ValueError, match="at least one device"):
        simulate_ifca(federation(), BASE, {})


def test_absurd_and_useless_updates_do_not_count() -> None:
    def sending(learner: Learner, factor: float) -> ChoosingDevice:
        def train(plan: RoundPlan) -> TrainedUpdate:
            learnt = learner.train(plan)
            lie = Adapter({n: Factors(f.a, f.b * factor) for n, f in learnt.adapter.layers.items()}, BASE_ID)
            return replace(learnt, adapter=lie)

        return replace(choosing(learner), train=train)

    devices = {learner.name: choosing(learner) for learner in LEARNERS}
    devices |= {LEARNERS[0].name: sending(LEARNERS[0], 1500.0), LEARNERS[1].name: sending(LEARNERS[1], np.nan)}
    events: list[tuple[str, Any]] = []
    outcomes = simulate_ifca(federation(), BASE, devices, lambda event, values: events.append((event, values)))
    closed = [values for event, values in events if event == "round_closed"]
    assert [values["refused"] for values in closed] == [
        {LEARNERS[0].name: "UpdateOutlier", LEARNERS[1].name: "AdapterValueError"}
    ] * 7
    for learner in LEARNERS[2:]:
        adapters = outcomes[learner.name].adapters
        assert learner.error([adapters["root"], adapters["cluster"]]) < 0.7
