"""Every method through the real rounds: devices that learn end up nearer to what is true for their group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from coordinator.config import BaseModel, Federation, parse
from coordinator.methods.aggregation import AGGREGATORS
from coordinator.simulation.choosing import found_groups
from coordinator.simulation.federation import Outcome, SimulatedDevice, _Simulation, simulate
from edge_sdk.adapter import Adapter, Factors, Share, beginning, concatenate, cosine, norm, pack, to_bytes
from edge_sdk.errors import ConfigurationError, NothingLearnt, PromptError, Rejected
from edge_sdk.membership import RoundPlan, TrainedUpdate
from edge_sdk.privacy import nearest_centroid
from edge_sdk.wire.messages import DeviceProfile, RoundStart
from tests.coordinator.adapters import BASE_ID, SLOTS
from tests.coordinator.learners import GROUPS, Learner
from tests.coordinator.settings import federation_of
from tests.integration.devices import coarse_code

BASE = BaseModel(BASE_ID, SLOTS)


def federation(method: str, **changes: Any) -> Federation:
    values = {
        "name": "tastes", "slots": "impasto.json", "rounds": 7, "root_rounds": 1, "rank": 4, "steps": 60,
        "learning_rate": 0.05, "interaction": "none", "clustering": {"clusters": GROUPS}, "aggregation": method,
        **changes,
    }  # fmt: skip
    if AGGREGATORS[method].home_factor:
        values["root_rounds"] = 0
    return federation_of(**values)


def run(settings: Federation, learners: list[Learner]) -> tuple[dict[str, Outcome], list[tuple[str, Any]]]:
    events: list[tuple[str, Any]] = []
    devices = {learner.name: SimulatedDevice(learner.profile, learner.train) for learner in learners}
    return simulate(settings, BASE, devices, lambda event, values: events.append((event, values))), events


def error(learner: Learner, outcome: Outcome) -> float:
    return learner.error([outcome.adapters[name] for name in ("root", "cluster") if name in outcome.adapters])


@pytest.mark.parametrize("method", AGGREGATORS.built_in)
def test_every_method_learns(method: str) -> None:
    learners = [Learner(number) for number in range(6)]
    outcomes, events = run(federation(method), learners)
    clusters = {
        learner.group: {outcomes[o.name].cluster for o in learners if o.group == learner.group} for learner in learners
    }
    assert all(len(found) == 1 for found in clusters.values())
    assert clusters[0] != clusters[1]
    # A random frozen A reaches 4 of 20 directions only.
    bar = 0.95 if method == "ffa" else 0.6
    for learner in learners:
        assert error(learner, outcomes[learner.name]) < bar, (method, learner)
    closed = [values for event, values in events if event == "round_closed"]
    assert [values["updates"] for values in closed] == [6] * 7


@pytest.mark.parametrize("method", [name for name, method in AGGREGATORS.built_in.items() if method.mixed_ranks])
def test_devices_of_mixed_ranks(method: str) -> None:
    learners = [Learner(number, rank=(4, 2, 3)[number % 3]) for number in range(6)]
    outcomes, _ = run(federation(method), learners)
    for learner in learners:
        assert error(learner, outcomes[learner.name]) < 0.97


@pytest.mark.parametrize("method", [name for name, method in AGGREGATORS.built_in.items() if not method.mixed_ranks])
def test_methods_of_one_rank_say_so(method: str) -> None:
    rules = federation(method).rules(BASE)
    assert rules.min_rank == 4


def test_bytes_tell_what_a_method_sends() -> None:
    sent = {}
    for method in ("fedit", "ffa", "fedsa", "fedsb", "flora"):
        learners = [Learner(number) for number in range(4)]
        outcomes, _ = run(federation(method, rounds=6, root_rounds=0), learners)
        sent[method] = (outcomes["device-0"].bytes_up, outcomes["device-0"].bytes_down)
    up = {method: bytes_up for method, (bytes_up, _) in sent.items()}
    assert up["fedsb"] < up["ffa"] < up["fedit"]
    assert up["fedsa"] < up["fedit"]
    assert sent["flora"][1] > 1.2 * sent["fedit"][1]


def test_a_factor_stays_at_home() -> None:
    learners = [Learner(number) for number in range(4)]
    outcomes, _ = run(federation("fedsa"), learners)
    mine, other = (outcomes[name].adapters["cluster"] for name in ("device-0", "device-2"))
    for name in SLOTS:
        np.testing.assert_array_equal(mine.layers[name].a, other.layers[name].a)
        assert not np.allclose(mine.layers[name].b, other.layers[name].b)


def test_no_root_where_a_factor_stays_at_home(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="root_rounds = 0"):
        parse('name = "t"\nslots = "s.json"\nroot_rounds = 1\n[aggregation]\nmethod = "fedsa"\n', folder=tmp_path)


def test_plans_say_what_to_train() -> None:
    asked: list[tuple[int, Share]] = []
    learner = Learner(0)

    def train(plan: Any) -> Any:
        asked.append((plan.round, plan.share))
        return learner.train(plan)

    simulate(federation("rolora", rounds=4), BASE, {"device-0": SimulatedDevice(learner.profile, train)})
    # The root's round, then the cluster's, each beginning with B: A has no gradient before B has moved.
    assert asked == [(1, Share.B), (2, Share.B), (3, Share.A), (4, Share.B)]


def test_a_device_that_cannot_take_part_is_named() -> None:
    learner = Learner(0)
    profile = msgspec.structs.replace(learner.profile, base_id="f" * 64)
    with pytest.raises(Rejected, match="device-0: BaseModelMismatch: This federation is of base model"):
        simulate(federation("fedit", rounds=1), BASE, {"device-0": SimulatedDevice(profile, learner.train)})


@pytest.mark.parametrize("chosen", ["clip", "krum", "median", "trim"])
def test_a_filter_keeps_a_lie_out(chosen: str) -> None:
    """One of five devices sends what it learnt with the sign turned, ten times as large."""
    learners = [Learner(2 * number) for number in range(5)]

    def lie(plan: RoundPlan) -> TrainedUpdate:
        learnt = learners[0].train(plan)
        return replace(learnt, adapter=concatenate([(learnt.adapter, -10.0)]))

    errors = {}
    for name in ("none", chosen):
        devices = {o.name: SimulatedDevice(o.profile, o.train) for o in learners}
        devices[learners[0].name] = SimulatedDevice(learners[0].profile, lie)
        outcomes = simulate(federation("product", filter=name, clustering={"clusters": 1}, rounds=4), BASE, devices)
        errors[name] = max(error(o, outcomes[o.name]) for o in learners[1:])
    assert errors[chosen] < 0.7 * errors["none"]


def test_what_a_filter_did_is_told() -> None:
    learners = [Learner(2 * number) for number in range(5)]
    _, events = run(federation("product", filter="krum", clustering={"clusters": 1}, rounds=2), learners)
    closed = [values["filter"] for event, values in events if event == "round_closed"]
    assert closed[0]["breakdown"] == 1
    assert sorted(closed[0]["trust"]) == [learner.name for learner in learners]
    assert sum(closed[1]["0"]["trust"].values()) == 4


@pytest.mark.parametrize("method", ["ffa", "rolora", "fedsb"])
def test_clipping_leaves_frozen_factors_alone(method: str) -> None:
    learners = [Learner(2 * number) for number in range(4)]
    outcomes, _ = run(federation(method, filter="clip", clustering={"clusters": 1}), learners)
    assert all(error(learner, outcomes[learner.name]) < 0.97 for learner in learners)


def test_no_filter_where_a_factor_stays_at_home(tmp_path: Path) -> None:
    text = 'name = "t"\nslots = "s.json"\nroot_rounds = 0\n[aggregation]\nmethod = "fedsa"\n[filter]\nmethod = "krum"\n'
    with pytest.raises(ConfigurationError, match="cannot judge"):
        parse(text, folder=tmp_path)


def test_carrying_keeps_what_weak_devices_cannot_hold() -> None:
    """Every group needs three directions on top of the root; most of its devices train one."""
    errors = {}
    for carry in (True, False):
        learners = [Learner(number, rank=4 if number < 2 else 1) for number in range(8)]
        outcomes, _ = run(federation("product", aggregation={"carry": carry}), learners)
        errors[carry] = [error(learner, outcomes[learner.name]) for learner in learners]
    assert max(errors[True]) < 0.6 * max(errors[False])


def test_a_wider_rank_than_any_device_trains() -> None:
    learners = [Learner(number, rank=2) for number in range(6)]
    outcomes, events = run(federation("product", rank=2, aggregation={"server_rank": 6}), learners)
    assert outcomes["device-0"].adapters["cluster"].rank == 6
    assert max(error(learner, outcomes[learner.name]) for learner in learners) < 0.5
    assert [values["updates"] for event, values in events if event == "round_closed"] == [6] * 7


@pytest.mark.parametrize("optimiser", ["momentum", "adam"])
@pytest.mark.parametrize("method", ["product", "fedit", "rolora", "flexlora", "hetlora", "fedsa"])
def test_server_optimisers_go_farther(method: str, optimiser: str) -> None:
    """The rounds are too short to reach the target, so that an optimiser goes farther in the direction that devices
    agree on. (Methods that freeze factors for good have hardly any room.)"""
    errors = {}
    pace = {"learning_rate": {"momentum": 1.0, "adam": 0.1}[optimiser], "momentum": 0.5}
    for name, chosen in (("none", "none"), (optimiser, {"method": optimiser, **pace})):
        learners = [Learner(number) for number in range(4)]
        outcomes, _ = run(federation(method, server_optimiser=chosen, learning_rate=0.01, steps=4), learners)
        errors[name] = np.mean([error(learner, outcomes[learner.name]) for learner in learners])
    assert errors[optimiser] < 0.98 * errors["none"]


@pytest.mark.parametrize("interaction", ["none", "attention"])
def test_momentum_takes_no_change_of_gauge_for_learning(interaction: str) -> None:
    """Mixed ranks and the interaction refactor the adapter every round. Heavy momentum that added that up would end
    behind where it began (1)."""
    learners = [Learner(number, rank=(4, 2, 3)[number % 3]) for number in range(6)]
    heavy = {"method": "momentum", "momentum": 0.9, "learning_rate": 1.0}
    pace = {"learning_rate": 0.01, "steps": 8, "rounds": 10}
    outcomes, _ = run(federation("product", server_optimiser=heavy, interaction=interaction, **pace), learners)
    assert np.mean([error(learner, outcomes[learner.name]) for learner in learners]) < 0.6


def test_a_server_optimiser_without_momentum_is_none() -> None:
    errors = {}
    still = {"method": "momentum", "momentum": 0.0, "learning_rate": 1.0}
    for name, chosen in (("none", "none"), ("momentum", still)):
        learners = [Learner(number) for number in range(4)]
        outcomes, _ = run(federation("product", server_optimiser=chosen), learners)
        errors[name] = np.mean([error(learner, outcomes[learner.name]) for learner in learners])
    assert errors["momentum"] == pytest.approx(errors["none"], rel=1e-3)


def test_no_device_owns_its_cluster_by_its_own_word() -> None:
    """One device says that it has 2^31 pictures, and teaches the opposite."""
    learners = [Learner(2 * number) for number in range(6)]

    def boast(plan: RoundPlan) -> TrainedUpdate:
        learnt = learners[0].train(plan)
        stats = msgspec.structs.replace(learnt.stats, pictures=2**31)
        return replace(learnt, adapter=concatenate([(learnt.adapter, -1.0)]), stats=stats)

    errors = {}
    for limit in (1.0, 4.0, 2**31):
        devices = {o.name: SimulatedDevice(o.profile, o.train) for o in learners}
        devices[learners[0].name] = SimulatedDevice(learners[0].profile, boast)
        settings = federation("product", aggregation={"max_weight": limit}, clustering="single", rounds=4)
        outcomes = simulate(settings, BASE, devices)
        errors[limit] = max(error(o, outcomes[o.name]) for o in learners[1:])
    assert federation("product").aggregation.max_weight == 4.0, "the default"
    assert errors[1.0] < errors[4.0] < 1.0 < errors[2**31]


def test_clusters_in_subspaces_of_their_own() -> None:
    learners = [Learner(number) for number in range(6)]
    outcomes, _ = run(federation("ffa", interaction="disjoint", rank=4, steps=100), learners)
    mine, other = (outcomes["device-0"].adapters[f"cluster-{c}"] for c in (0, 1))
    assert norm(mine) > 0
    assert abs(cosine(mine, other)) < 1e-6
    for learner in learners:
        assert error(learner, outcomes[learner.name]) < 0.97


def test_an_update_that_is_out_of_all_proportion_changes_nothing() -> None:
    learners = [Learner(2 * number) for number in range(4)]

    def absurd(plan: RoundPlan) -> TrainedUpdate:
        learnt = learners[0].train(plan)
        return replace(learnt, adapter=concatenate([(learnt.adapter, 2000.0)]))

    devices = {o.name: SimulatedDevice(o.profile, o.train) for o in learners}
    devices[learners[0].name] = SimulatedDevice(learners[0].profile, absurd)
    events: list[tuple[str, Any]] = []
    settings = federation("product", clustering={"clusters": 1}, rounds=3)
    outcomes = simulate(settings, BASE, devices, lambda event, values: events.append((event, values)))
    assert max(error(o, outcomes[o.name]) for o in learners[1:]) < 0.6
    refused = [values["refused"] for event, values in events if event == "round_closed"]
    assert refused == [{learners[0].name: "UpdateOutlier"}] * 3


def nan(adapter: Adapter) -> Adapter:
    return Adapter({name: Factors(f.a * np.nan, f.b) for name, f in adapter.layers.items()}, adapter.base_id)


def unknown(adapter: Adapter) -> Adapter:
    return Adapter({f"{name}.more": factors for name, factors in adapter.layers.items()}, adapter.base_id)


def partly(adapter: Adapter) -> Adapter:
    return Adapter(dict(list(adapter.layers.items())[:1]), adapter.base_id)


def of_low_rank(adapter: Adapter) -> Adapter:
    return Adapter({n: Factors(f.a[:1], f.b[:, :1]) for n, f in adapter.layers.items()}, adapter.base_id)


USELESS: list[tuple[str, Callable[[Adapter], Adapter], str]] = [
    ("product", nan, "AdapterValueError"),
    ("product", unknown, "AdapterMismatch"),
    ("product", partly, "AdapterMismatch"),
    ("fedit", of_low_rank, "AdapterMismatch"),
]


@pytest.mark.parametrize(("method", "spoil", "code"), USELESS, ids=[f"{m}-{s.__name__}" for m, s, _ in USELESS])
def test_the_round_goes_on_without_a_useless_update(
    method: str, spoil: Callable[[Adapter], Adapter], code: str
) -> None:
    learners = [Learner(2 * number) for number in range(3)]

    def useless(plan: RoundPlan) -> TrainedUpdate:
        learnt = learners[0].train(plan)
        return replace(learnt, adapter=spoil(learnt.adapter))

    devices = {o.name: SimulatedDevice(o.profile, o.train) for o in learners}
    devices[learners[0].name] = SimulatedDevice(learners[0].profile, useless)
    events: list[tuple[str, Any]] = []
    outcomes = simulate(
        federation(method, clustering={"clusters": 1}),
        BASE,
        devices,
        lambda event, values: events.append((event, values)),
    )
    assert max(error(o, outcomes[o.name]) for o in learners[1:]) < 0.7
    closed = [values for event, values in events if event == "round_closed"]
    assert [values["refused"] for values in closed] == [{learners[0].name: code}] * len(closed)
    assert {values["updates"] for values in closed} == {2}


def test_a_round_without_any_useful_update() -> None:
    learner = Learner(0)

    def useless(plan: RoundPlan) -> TrainedUpdate:
        learnt = learner.train(plan)
        return replace(learnt, adapter=nan(learnt.adapter))

    with pytest.raises(NothingLearnt, match=r"round 1 was refused \(device-0: AdapterValueError"):
        simulate(federation("product"), BASE, {learner.name: SimulatedDevice(learner.profile, useless)})


@pytest.mark.parametrize("method", AGGREGATORS.built_in)
def test_bytes_are_those_of_the_files(method: str) -> None:
    """A device's bytes up are the sizes of its files, its bytes down those of the adapters that it was told of."""
    learner, sent = Learner(0), []

    def train(plan: RoundPlan) -> TrainedUpdate:
        trained = learner.train(plan)
        start = beginning(plan.start, SLOTS, plan.rank, plan.seed, plan.share)
        sent.append(len(pack(Adapter(trained.adapter.layers, BASE_ID), start, plan.share)))
        return trained

    outcome = simulate(
        federation(method, root_rounds=0, interaction="none"),
        BASE,
        {learner.name: SimulatedDevice(learner.profile, train)},
    )[learner.name]
    assert outcome.bytes_up == sum(sent) > 0


class Twice(_Simulation):
    """Every update is delivered twice."""

    def _work(self, name: str, start: RoundStart) -> None:
        super()._work(name, start)
        self._events.append(self._events[-1])


@pytest.mark.parametrize("method", AGGREGATORS.built_in)
def test_what_is_delivered_twice_counts_once(method: str) -> None:
    learners = [Learner(number) for number in range(3)]
    settings = federation(method, rounds=3, steps=10)
    devices = {o.name: SimulatedDevice(o.profile, o.train) for o in learners}
    plain, twice = simulate(settings, BASE, devices), Twice(settings, BASE, devices, None).run()
    for name, outcome in plain.items():
        for role, adapter in outcome.adapters.items():
            assert to_bytes(twice[name].adapters[role]) == to_bytes(adapter)


def test_nobody_to_simulate() -> None:
    with pytest.raises(ValueError, match="at least one device"):
        simulate(federation("product"), BASE, {})


class Watching(Learner):
    """Remembers how much larger the factors were that it was given than their product."""

    excess = 0.0

    def train(self, plan: RoundPlan) -> TrainedUpdate:
        if plan.start:
            for factors in plan.start.layers.values():
                sizes = [np.linalg.norm(x.astype(float), ord=2) for x in (factors.a, factors.b, factors.b @ factors.a)]
                self.excess = max(self.excess, sizes[0] * sizes[1] / sizes[2])
        return super().train(plan)


def test_factors_stay_as_small_as_their_products_ask_for() -> None:
    """Devices of smaller ranks are given other factors than they sent, every round; those must not cancel out more and
    more, or steps of the usual size destroy the product."""
    learners = [Watching(number, rank=(8, 2, 4)[number % 3]) for number in range(6)]
    run(federation("product", rank=8, rounds=12, root_rounds=0, steps=8, interaction="attention"), learners)
    assert max(learner.excess for learner in learners) < 3


def test_devices_that_choose_their_clusters_alone() -> None:
    """Groups are those of the plain sums; the weights are those under masks, and so are the bytes."""
    learners = [Learner(number) for number in range(8)]
    codes = {learner.name: coarse_code(("apples", "boats")[learner.group], learner.number) for learner in learners}
    keys = {"privacy": "local", "allow_plain": False, "aggregation": {"masked": True}, "clustering": {}, "rounds": 4}
    settings = federation("fedit", **keys)
    profile = DeviceProfile(
        base_id=BASE_ID, prompt_code=b"", level="local", basis=bytes(32), pictures=100, max_rank=4
    )  # fmt: skip
    devices = {o.name: SimulatedDevice(profile, o.train, code=codes[o.name]) for o in learners}
    base = msgspec.structs.replace(BASE, basis=bytes(32))
    outcomes = simulate(settings, base, devices)
    groups, _, _ = found_groups(settings, codes)
    centroids = np.array(groups.centroids)
    assert {name: outcome.cluster for name, outcome in outcomes.items()} == {
        name: nearest_centroid(code, centroids) for name, code in codes.items()
    }
    assert len({(learner.group, outcomes[learner.name].cluster) for learner in learners}) == 2
    assert all(error(learner, outcomes[learner.name]) < 0.6 for learner in learners)
    rules = settings.rules(base)
    assert {outcome.bytes_up for outcome in outcomes.values()} == {outcomes["device-0"].bytes_up}
    slots = 3 * (rules.words[Share.BOTH] + rules.slot_words[Share.BOTH] + 3) + rules.words[Share.BOTH]
    assert outcomes["device-0"].bytes_up > 4 * slots, "and the answers to questions"
    assert len({outcome.bytes_down for outcome in outcomes.values()}) == 1, "downloads do not tell clusters apart"
    with pytest.raises(PromptError):
        simulate(settings, base, {name: replace(device, code=b"") for name, device in devices.items()})
