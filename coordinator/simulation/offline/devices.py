"""Devices of an offline run: real training on one base model in memory, codes by the bundle's encoders."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from coordinator.simulation.offline.folders import Folder
from edge_sdk.adapter import Adapter
from edge_sdk.codes import Code, different_pictures, picture_codes, prompt_codes
from edge_sdk.errors import PromptError
from edge_sdk.inference import Generator
from edge_sdk.membership import RoundPlan, TrainedUpdate
from edge_sdk.pictures import Picture, PictureLeftOut, load_pictures
from edge_sdk.privacy import level_named
from edge_sdk.training import Progress, Trainer, image_size, train_round
from edge_sdk.wire import DeviceProfile

# Timesteps for each picture: few to choose a model, more for the reported losses.
CHOICE_LEVELS, JUDGING_LEVELS = 2, 8
OnStep = Callable[[str, RoundPlan, Progress], None]


class OfflineDevice:
    """One device: its profile, its training, and the loss of adapters on its pictures.

    Args:
        folder: its folder.
        trainer: trains on its pictures.
        held_out: pictures for evaluation; none: those that it learns from.
        profile: its profile.
        seed: seed of the evaluation.
        on_step: called after every training step.
        code: its code at home, at level "local".
    """

    def __init__(
        self,
        folder: Folder,
        trainer: Trainer,
        held_out: Sequence[Picture],
        profile: DeviceProfile,
        seed: int,
        on_step: OnStep,
        code: bytes = b"",
    ) -> None:
        self.folder, self.profile, self.code = folder, profile, code
        self._trainer, self._held_out, self._seed, self._on_step = trainer, list(held_out), seed, on_step

    def train(self, plan: RoundPlan) -> TrainedUpdate:
        """Train one round."""
        return train_round(
            self._trainer, plan, on_step=lambda progress: self._on_step(self.folder.name, plan, progress)
        )

    def choose(self, models: Sequence[Adapter], frozen: Sequence[Adapter]) -> int:
        """Return the index of the model with the least loss on the pictures to learn from."""
        frozen_weighted = [(adapter, 1.0) for adapter in frozen]
        losses = [
            self._trainer.evaluate([*frozen_weighted, (model, 1.0)], seed=self._seed, levels=CHOICE_LEVELS)
            for model in models
        ]
        return int(np.argmin(losses))

    def loss(self, adapters: Sequence[Adapter]) -> float:
        """Return the mean denoising loss on the pictures held out, or on those it learns from if there are none."""
        weighted = [(adapter, 1.0) for adapter in adapters]
        return self._trainer.evaluate(weighted, self._held_out or None, seed=self._seed, levels=JUDGING_LEVELS)


def open_devices(
    folders: Sequence[Folder],
    *,
    model: Path,
    bundle: Path,
    privacy: str,
    seed: int,
    threads: int | None,
    on_step: OnStep,
) -> Iterator[OfflineDevice]:
    """Yield the devices one after the other, with their pictures read and encoded.

    privacy: level of their codes.

    Raises:
        TrainingError, BundleError: the base model or the bundle cannot be used.
        PictureError: a picture cannot be read.
        PromptError: a device has too few different captions for this level.
        ConfigurationError: the bundle lacks the basis that this level needs.
    """
    size = image_size(model)
    trainer: Trainer | None = None
    # Only the text encoder is opened, which is not worth preparing for this processor.
    with Generator.load(bundle, threads=threads, prepare=False) as generator:
        for folder in folders:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PictureLeftOut)  # `read_folders` has warned already
                pictures = load_pictures(folder.path, size)
            learnt = [pictures[number] for number in folder.learnt]
            trainer = trainer.with_pictures(learnt) if trainer else Trainer(model, learnt, threads=threads)
            coded = _coded(generator, folder, [picture.text for picture in learnt], privacy)
            seen = picture_codes(generator, different_pictures(picture.image for picture in learnt), [privacy])[0]
            profile = DeviceProfile(
                base_id=trainer.base_id,
                prompt_code=coded.code if level_named(privacy).leaves else b"",
                level=coded.level,
                basis=coded.source,
                pictures=len(learnt),
                max_rank=folder.max_rank,
                picture_code=seen.code,
                picture_encoder=seen.source,
            )
            held_out = [pictures[number] for number in folder.held_out]
            yield OfflineDevice(folder, trainer, held_out, profile, seed, on_step, coded.code)


def _coded(generator: Generator, folder: Folder, captions: list[str], level: str) -> Code:
    try:
        return prompt_codes(generator, captions, [level])[0]
    except PromptError as error:
        raise PromptError(f"{folder.path}: {error}") from error
