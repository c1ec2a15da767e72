"""Progress and result of a training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from edge_sdk.adapter import Adapter
from edge_sdk.training.guard import Reason
from edge_sdk.wire import TrainingStats


@dataclass(frozen=True)
class Progress:
    """Progress of a training after a step.

    Attributes:
        step: steps done.
        steps: steps to do; None if the training ends by time.
        loss: loss of the last step.
        seconds: training time so far, without steps that an interruption has lost.
        adapter: function that returns the adapter as it is now, copied; call it while the training waits.
    """

    step: int
    steps: int | None
    loss: float
    seconds: float
    adapter: Callable[[], Adapter] = field(repr=False, compare=False)


@dataclass(frozen=True)
class TrainingResult:
    """A trained adapter, and the course of its training.

    Attributes:
        adapter: the factors, `base_id` set.
        stats: its figures; the first and the last steps are a quarter of them each, at most 50.
        steps: steps done.
        kept_step: number of steps behind the adapter: `steps`, unless a guard found an earlier one better.
        stopped: the guard's reason to stop before the time was over; None if it had none.
    """

    adapter: Adapter
    stats: TrainingStats
    steps: int
    kept_step: int
    stopped: Reason | None = None
