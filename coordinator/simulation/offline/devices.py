"""The devices of an offline run: real training on one base model in memory, prompt codes by the bundle's text encoder.

Codes are of level "plain": nothing leaves the process.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from coordinator.simulation.offline.folders import Folder
from edge_sdk.adapter import Adapter
from edge_sdk.inference import Generator, PromptTruncated
from edge_sdk.membership import RoundPlan, TrainedUpdate
from edge_sdk.pictures import Picture, PictureLeftOut, load_pictures
from edge_sdk.privacy import prompt_code
from edge_sdk.training import Progress, Trainer, image_size, train_round
from edge_sdk.wire import DeviceProfile

# Timesteps a picture: few to choose a model by, more for the figures that are compared.
CHOICE_LEVELS, JUDGING_LEVELS = 2, 8
OnStep = Callable[[str, RoundPlan, Progress], None]


class OfflineDevice:
    """One device: what the coordinator knows of it, how it trains, and how well adapters serve it."""

    def __init__(
        self,
        folder: Folder,
        trainer: Trainer,
        held_out: Sequence[Picture],
        profile: DeviceProfile,
        seed: int,
        on_step: OnStep,
    ) -> None:
        self.folder, self.profile = folder, profile
        self._trainer, self._held_out, self._seed, self._on_step = trainer, list(held_out), seed, on_step

    def train(self, plan: RoundPlan) -> TrainedUpdate:
        """A round's work."""
        return train_round(
            self._trainer, plan, on_step=lambda progress: self._on_step(self.folder.name, plan, progress)
        )

    def choose(self, models: Sequence[Adapter], below: Sequence[Adapter]) -> int:
        """Which model has the least loss on the pictures to learn from."""
        under = [(adapter, 1.0) for adapter in below]
        losses = [
            self._trainer.evaluate([*under, (model, 1.0)], seed=self._seed, levels=CHOICE_LEVELS) for model in models
        ]
        return int(np.argmin(losses))

    def loss(self, adapters: Sequence[Adapter]) -> float:
        """The mean denoising loss on the pictures held out; on those it learns from where none is."""
        weighted = [(adapter, 1.0) for adapter in adapters]
        return self._trainer.evaluate(weighted, self._held_out or None, seed=self._seed, levels=JUDGING_LEVELS)


def open_devices(
    folders: Sequence[Folder], *, model: Path, bundle: Path, seed: int, threads: int | None, on_step: OnStep
) -> Iterator[OfflineDevice]:
    """Read and encode the pictures of one device after the other.

    Raises:
        TrainingError, BundleError: the base model or the bundle cannot be used.
        PictureError: a picture cannot be read.
    """
    size = image_size(model)
    trainer: Trainer | None = None
    # The text encoder alone is opened, which is not worth laying out for this processor.
    with Generator.load(bundle, threads=threads, prepare=False) as generator:
        for folder in folders:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PictureLeftOut)  # `read_folders` has said so
                pictures = load_pictures(folder.path, size)
            learnt = [pictures[at] for at in folder.learnt]
            trainer = trainer.with_pictures(learnt) if trainer else Trainer(model, learnt, threads=threads)
            profile = DeviceProfile(
                base_id=trainer.base_id,
                prompt_code=_code(generator, [picture.text for picture in learnt]),
                pictures=len(learnt),
                max_rank=folder.max_rank,
            )
            held_out = [pictures[at] for at in folder.held_out]
            yield OfflineDevice(folder, trainer, held_out, profile, seed, on_step)


def _code(generator: Generator, captions: list[str]) -> bytes:
    with warnings.catch_warnings():
        # The beginning of a long caption says what a picture is about, which is all that a code is for.
        warnings.simplefilter("ignore", PromptTruncated)
        embeddings = generator.encode_prompt(captions)[1]
    return prompt_code(embeddings, "plain").astype("<f4").tobytes()
