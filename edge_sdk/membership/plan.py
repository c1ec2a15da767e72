"""The plan of a round's training, and its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from edge_sdk.adapter import Adapter, LayerSet, Share
from edge_sdk.wire import Stage, TrainingStats


@dataclass(frozen=True)
class RoundPlan:
    """A device's work in one round.

    Attributes:
        round, rounds: this round's number, from 1, and how many there are.
        stage: which adapter the round trains, "root" or "cluster".
        cluster: the device's cluster; None in a root round.
        frozen: adapters to keep under the trained one at weight 1: the root in a cluster round, and the part of `start`
            that this device's rank cannot hold.
        share: which factors to train; `Trainer.train` takes it.
        layers: which layers to train, see `edge_sdk.adapter.LayerSet`.
        start: the adapter to go on from, of at most rank `rank`; None starts from the common initialisation of `seed`.
        rank, steps, batch_size, learning_rate, seed: how to train.
        deadline: seconds left until the round may close without this device.
        checkpoint: file that may hold an unfinished training, one for each plan; None for no checkpoint. It is deleted
            when the update is stored, or another plan begins.
    """

    round: int
    rounds: int
    stage: Stage
    cluster: int | None
    frozen: tuple[Adapter, ...]
    start: Adapter | None
    share: Share
    rank: int
    seed: int
    steps: int
    batch_size: int
    learning_rate: float
    deadline: float
    checkpoint: Path | None = None
    layers: LayerSet = "attention"


@dataclass(frozen=True)
class TrainedUpdate:
    """Result of a round's training.

    Attributes:
        adapter: the whole trained adapter (not the difference to `start`), of at most the plan's rank.
        stats: the figures of its training.
    """

    adapter: Adapter
    stats: TrainingStats


Train: TypeAlias = Callable[[RoundPlan], TrainedUpdate]
