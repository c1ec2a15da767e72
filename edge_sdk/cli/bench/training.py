"""The part that trains an adapter for a few steps."""

from __future__ import annotations

import itertools
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from edge_sdk.cli.bench.parts import Reporter, Skip, Values
from edge_sdk.errors import TrainingError
from edge_sdk.pictures import Picture

if TYPE_CHECKING:
    from edge_sdk.training import Progress

_RANK = 8


def train(settings: Values, reporter: Reporter) -> Values:
    """Train a few steps on pictures of noise. The first step is told apart: it makes what later ones use again.

    Raises:
        TrainingError: the model cannot be trained, or is not the bundle's.
    """
    if settings["model"] is None:
        raise Skip("no --model was given")
    try:
        from edge_sdk.training import Trainer, image_size
    except TrainingError as error:
        raise Skip(str(error)) from error
    reporter.mark("imported")
    steps, batch = settings["training_steps"], settings["batch_size"]
    pictures = _noise(max(4, batch), image_size(Path(settings["model"])))
    trainer = Trainer(
        settings["model"],
        pictures,
        rank=_RANK,
        batch_size=batch,
        threads=settings["threads"],
        memory_limit=settings["memory_limit"],
    )
    if trainer.base_id != settings["base_id"]:
        raise TrainingError(
            f"The model has base id {trainer.base_id[:12]}…, the bundle {settings['base_id'][:12]}…: give the model "
            "that the bundle was made of."
        )
    reporter.mark("opened")
    times: list[float] = [time.monotonic()]

    def on_step(progress: Progress) -> None:
        times.append(time.monotonic())
        reporter.progress(progress.step, steps)

    trainer.train(steps=steps, on_step=on_step)
    first, *others = (later - earlier for earlier, later in itertools.pairwise(times))
    return {
        "steps": steps,
        "batch_size": batch,
        "rank": _RANK,
        "image_size": trainer.image_size,
        "precision": trainer.precision,
        "first_step_seconds": round(first, 4),
        "step_seconds": round(statistics.median(others), 4),
    }


def _noise(count: int, size: int) -> list[Picture]:
    numbers = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    return [Picture(Image.fromarray(pixels), f"noise {i}", Path(f"{i}.png")) for i, pixels in enumerate(numbers)]
