"""Results are computed once, and never taken for those of other work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.shared.learnt import Learnt
from edge_sdk.adapter import Share, to_bytes
from edge_sdk.membership import RoundPlan, TrainedUpdate
from edge_sdk.wire import TrainingStats
from tests.coordinator.adapters import random_adapter

PLAN = RoundPlan(
    round=2, rounds=8, stage="cluster", cluster=1, frozen=(random_adapter(1),), start=random_adapter(2),
    share=Share.BOTH, rank=4, seed=1, steps=12, batch_size=8, learning_rate=1e-3, deadline=60.0,
)  # fmt: skip


class Trains:
    """Counts how often it had to."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, plan: RoundPlan) -> TrainedUpdate:
        self.times += 1
        stats = TrainingStats(pictures=7, first_loss=1.0, last_loss=0.5, train_seconds=3.25)
        return TrainedUpdate(random_adapter(10 + self.times), stats)


def test_the_same_work_is_done_once(tmp_path: Path) -> None:
    train = Trains()
    first = Learnt(tmp_path, "device 1").update(PLAN, train)
    again = Learnt(tmp_path, "device 1").update(replace(PLAN, round=3, rounds=9, cluster=2, deadline=5.0), train)
    assert train.times == 1
    assert to_bytes(again.adapter) == to_bytes(first.adapter) == to_bytes(random_adapter(11))
    assert replace(again, adapter=first.adapter) == first


@pytest.mark.parametrize(
    "changes",
    [{"start": random_adapter(3)}, {"start": None}, {"frozen": ()}, {"share": Share.B}, {"steps": 13}, {"seed": 2},
     {"rank": 2}, {"stage": "root"}, {"batch_size": 4}, {"learning_rate": 2e-3}],
)  # fmt: skip
def test_other_work_is_other_work(tmp_path: Path, changes: dict[str, Any]) -> None:
    train = Trains()
    learnt = Learnt(tmp_path, "device 1")
    learnt.update(PLAN, train)
    learnt.update(replace(PLAN, **changes), train)
    assert train.times == 2


def test_of_another_device_too(tmp_path: Path) -> None:
    train = Trains()
    for about in ("device 1", "device 2"):
        Learnt(tmp_path, about).update(PLAN, train)
    assert train.times == 2


def test_figures_belong_to_adapters_at_weights(tmp_path: Path) -> None:
    learnt = Learnt(tmp_path, "device 1")
    answers = iter(range(10))
    one, other = (random_adapter(1), 1.0), (random_adapter(2), 0.5)
    asked = [[one], [one], [one, other], [(one[0], 0.5)], [], [one, other]]
    assert [learnt.figure("loss", adapters, lambda: next(answers)) for adapters in asked] == [0, 0, 1, 2, 3, 1]
    assert learnt.figure("own loss", [one], lambda: next(answers)) == 4
