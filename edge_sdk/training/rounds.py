"""A round's work for a trainer: what a `RoundPlan` asks for, done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge_sdk.membership import RoundPlan, TrainedUpdate
from edge_sdk.training.trainer import Progress, Trainer


def train_round(
    trainer: Trainer,
    plan: RoundPlan,
    *,
    minutes: float | None = None,
    on_step: Callable[[Progress], None] | None = None,
    checkpoint: Path | None = None,
) -> TrainedUpdate:
    """Train what a round asks for.

    Args:
        minutes: end earlier than the plan's steps, after so long; None does all of them.
        on_step, checkpoint: as `Trainer.train` has them.

    Raises:
        As `Trainer.train`.
    """
    result = trainer.train(
        steps=plan.steps,
        minutes=minutes,
        start=plan.start,
        frozen=[(adapter, 1.0) for adapter in plan.frozen],
        share=plan.share,
        seed=plan.seed,
        rank=plan.rank,
        batch_size=plan.batch_size,
        learning_rate=plan.learning_rate,
        on_step=on_step,
        checkpoint=checkpoint,
    )
    return TrainedUpdate(result.adapter, trainer.pictures, result.first_loss, result.last_loss, result.seconds)
