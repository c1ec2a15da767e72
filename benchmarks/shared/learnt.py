"""Updates and losses of a study's devices, kept by content.

Rows of a study have much in common: their first rounds, their bounds, and everything if two clusterings agree. Training
and evaluation are deterministic, so a result computed before, in this row or another, is read instead; a row that was
stopped in the middle resumes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.shared.harness import cached
from edge_sdk import durable
from edge_sdk.adapter import Adapter, from_bytes, to_bytes
from edge_sdk.membership import RoundPlan, TrainedUpdate
from edge_sdk.wire import TrainingStats


class Learnt:
    """The results of one device (or of all together) in a folder.

    Args:
        about: everything else that results depend on: the base model, the pictures, the noise.
    """

    def __init__(self, folder: Path, about: Any) -> None:
        self._folder = folder
        self._about = about

    def figure(self, what: str, adapters: Sequence[tuple[Adapter, float]], measure: Callable[[], Any]) -> Any:
        """A measurement that depends on adapters only, as a JSON value: read if kept, otherwise measured."""
        shapes = [(_content(adapter), weight) for adapter, weight in adapters]
        return cached(self._folder / f"{self._key(what, shapes)}.json", measure)

    def update(self, plan: RoundPlan, train: Callable[[RoundPlan], TrainedUpdate]) -> TrainedUpdate:
        """The update that a round's plan gives: read if kept, otherwise trained."""
        asked = [
            plan.stage, plan.share.value, plan.layers, plan.rank, plan.steps, plan.batch_size, plan.learning_rate,
            plan.seed,
            [_content(adapter) for adapter in plan.frozen], _content(plan.start) if plan.start else None,
        ]  # fmt: skip
        path = self._folder / f"{self._key('update', asked)}.safetensors"

        def learn() -> Any:
            made = train(plan)
            durable.write(path, to_bytes(made.adapter))
            return list(made.stats.figures().values())

        figures = cached(path.with_suffix(".json"), learn)
        # Kept as a list, in the order of the names.
        stats = TrainingStats(**dict(zip(TrainingStats.__struct_fields__, figures, strict=True)))
        return TrainedUpdate(from_bytes(path.read_bytes()), stats)

    def _key(self, what: str, asked: Any) -> str:
        self._folder.mkdir(parents=True, exist_ok=True)
        return hashlib.sha256(json.dumps([self._about, what, asked]).encode()).hexdigest()[:32]


def _content(adapter: Adapter) -> str:
    return hashlib.sha256(to_bytes(adapter)).hexdigest()
