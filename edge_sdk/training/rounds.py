"""Training for a round, by its `RoundPlan`."""

from __future__ import annotations

from collections.abc import Callable

from edge_sdk.membership import RoundPlan, TrainedUpdate
from edge_sdk.training.checkpoint import resumed, seconds_spent
from edge_sdk.training.progress import Progress
from edge_sdk.training.trainer import Trainer


def train_round(
    trainer: Trainer,
    plan: RoundPlan,
    *,
    minutes: float | None = None,
    on_step: Callable[[Progress], None] | None = None,
) -> TrainedUpdate:
    """Train as the plan of a round says.

    If the plan names a checkpoint, a training that was killed resumes from it, for `minutes` more. A checkpoint that is
    damaged or of another training is deleted.

    Args:
        minutes: longest training time, even if steps are left; None does all of the plan's steps.
        on_step: that of `Trainer.train`.

    Raises:
        The errors of `Trainer.train`, except CheckpointError.
    """
    return resumed(lambda: _trained(trainer, plan, minutes, on_step), plan.checkpoint)


def _trained(
    trainer: Trainer, plan: RoundPlan, minutes: float | None, on_step: Callable[[Progress], None] | None
) -> TrainedUpdate:
    before = seconds_spent(plan.checkpoint) if plan.checkpoint else 0.0
    result = trainer.train(
        steps=plan.steps,
        minutes=None if minutes is None else minutes + before / 60,
        start=plan.start,
        frozen=[(adapter, 1.0) for adapter in plan.frozen],
        share=plan.share,
        seed=plan.seed,
        rank=plan.rank,
        batch_size=plan.batch_size,
        learning_rate=plan.learning_rate,
        layers=plan.layers,
        on_step=on_step,
        checkpoint=plan.checkpoint,
    )
    return TrainedUpdate(result.adapter, result.stats)
