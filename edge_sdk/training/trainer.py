"""Trainer: learns an adapter from captioned pictures, and measures its loss."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from edge_sdk.adapter import LAYER_SETS, Adapter, LayerSet, Share, to_bytes
from edge_sdk.errors import BundleError, OutOfMemory, TrainingError
from edge_sdk.inference.runtime import is_lack_of_it
from edge_sdk.paths import expanded
from edge_sdk.training.base_model import Storage, computed_again, known_base_id, load_unet, training_cache
from edge_sdk.training.checkpoint import State, keep_checkpoint, load_checkpoint
from edge_sdk.training.encoding import Captioned, Encoded, KeptEncodings, Pictures, encode, gather, image_size
from edge_sdk.training.guard import Guard, Look, best_of, reason_to_stop
from edge_sdk.training.lora import Slots, Trained
from edge_sdk.training.memory import SIZES, Budget, Planner
from edge_sdk.training.objective import Objective
from edge_sdk.training.precision import (
    TrainingPrecision,
    fast_attention,
    fast_kernels,
    limited_threads,
    native_precision,
)
from edge_sdk.training.progress import Progress, TrainingResult
from edge_sdk.training.randomness import Draw, Draws, evaluation_draw
from edge_sdk.training.settings import TrainingSettings
from edge_sdk.wire import TrainingStats

_LOG = logging.getLogger(__name__)
Weighted = Sequence[tuple[Adapter, float]]


class Trainer:
    """Learns LoRA adapters for one base model from one set of pictures.

    Latents and prompt embeddings are computed here, once, and kept in the cache; afterwards only the UNet stays. The
    weights of a large UNet are laid out in the cache once, too, and mapped: pages that the system drops when memory is
    short.

    Args:
        model: a diffusers folder of the Stable Diffusion 1.x/2.x family (epsilon or v-prediction).
        pictures: a folder (see `edge_sdk.pictures`), or pictures with their captions.
        rank: LoRA rank of new factors.
        batch_size: pictures a step.
        learning_rate: the constant learning rate of Adam.
        layers: the layers that are trained, see `edge_sdk.adapter.LayerSet`.
        min_snr_gamma: see `edge_sdk.training.objective`. None weighs all timesteps alike; "usual" is 5 for models that
            predict epsilon and None for those that predict v.
        mirror: show half of the pictures mirrored, left for right, which makes few pictures count for more; False for
            pictures with lettering, or whose sides matter.
        caption_dropout: share of captions left out, so that classifier-free guidance still works.
        precision: "bf16" or "fp32"; None takes what this CPU has instructions for. Factors are always float32.
        threads: number of threads that torch may use; None leaves that to torch.
        memory_limit: bytes that training may take, or a text such as "2GB": how to train within it is chosen, see
            `edge_sdk.training.memory`, and may mean smaller pictures or fewer layers than asked for. None sets none.
        cache: folder for weights and encodings of large models; None takes $IMPASTO_CACHE or the user's cache folder.

    Attributes:
        budget: the way to train that was chosen for these settings, and its predicted peak; None without a limit.
        image_size: side in pixels of the pictures that it learns from.
        precision: the precision that it computes in.

    Raises:
        MemoryLimitTooSmall: no way to train fits into the limit.
        NoPictures, PictureError: see `edge_sdk.pictures.load_pictures`.
        TrainingError: the folder is no base model that can be trained, its weights cannot be read, or a setting makes
            no sense.
    """

    def __init__(
        self,
        model: Path | str,
        pictures: Pictures,
        *,
        rank: int = 8,
        batch_size: int = 8,
        learning_rate: float = 1e-3,
        layers: LayerSet = "attention",
        min_snr_gamma: float | Literal["usual"] | None = "usual",
        mirror: bool = True,
        caption_dropout: float = 0.05,
        precision: TrainingPrecision | None = None,
        threads: int | None = None,
        memory_limit: int | str | None = None,
        cache: Path | str | None = None,
    ) -> None:
        if (threads is not None and threads < 1) or not 0 <= caption_dropout <= 1:
            raise TrainingError("Training needs threads of at least 1 and a caption_dropout between 0 and 1.")
        if not (min_snr_gamma in ("usual", None) or float(min_snr_gamma) > 0):
            raise TrainingError("Training needs a min_snr_gamma above 0, or None.")
        self._defaults = TrainingSettings(rank, batch_size, learning_rate, layers)
        self._model = expanded(model)
        self._mirror = mirror
        self._dropout = caption_dropout
        self._threads = threads
        self.precision: TrainingPrecision = precision or native_precision()
        self.image_size = image_size(self._model)
        self._storage: Storage = self.precision
        try:
            kept = training_cache(self._model, cache)
            base_id = known_base_id(self._model, kept)
        except BundleError as error:
            raise TrainingError(str(error)) from error
        self._planner = (
            None
            if memory_limit is None
            else Planner(self._model, memory_limit, self.precision, mapped=kept is not None)
        )
        self.budget = self._budget()
        self._judged: dict[str, Encoded] = {}
        self._kept = KeptEncodings(base_id, kept)
        with limited_threads(threads):
            self._pictures = self._encoded(gather(pictures, self.image_size), mirror=mirror)
            self._objective = Objective.of_model(self._model)
            self._gamma = self._objective.usual_gamma if min_snr_gamma == "usual" else min_snr_gamma
            self._unet = load_unet(self._model, base_id, self._storage, kept)
        self._slots = Slots(self._unet, base_id)

    def _budget(self) -> Budget | None:
        """The best way to train with the usual settings, which become those of that way."""
        if self._planner is None:
            return None
        asked = self._defaults
        found = self._planner.choose(
            [self.image_size, *(size for size in SIZES if size < self.image_size)],
            LAYER_SETS[LAYER_SETS.index(asked.layers) :: -1],
            ["bf16"] if self.precision == "bf16" else ["fp32", "bf16"],
            rank=asked.rank,
            batch_size=asked.batch_size,
        )
        self.image_size, self._storage = found.way.image_size, found.way.storage
        self._defaults = replace(asked, layers=found.way.layers)
        return found

    @property
    def base_id(self) -> str:
        """The id of the base model; every adapter made here carries it."""
        return self._slots.base_id

    @property
    def pictures(self) -> int:
        """Number of pictures that it learns from."""
        return len(self._pictures)

    def with_pictures(self, pictures: Pictures) -> Trainer:
        """A trainer for these pictures with the same UNet, which is in memory once: use one of the two at a time.

        If they are the same as before, they are not encoded again.

        Raises:
            NoPictures, PictureError: see `edge_sdk.pictures.load_pictures`.
        """
        other, captioned = copy.copy(self), gather(pictures, self.image_size)
        if captioned.digest != self._pictures.digest:
            with limited_threads(self._threads):
                other._pictures = self._encoded(captioned, mirror=self._mirror)
        other._judged = {}
        return other

    def plan(
        self, *, rank: int | None = None, batch_size: int | None = None, layers: LayerSet | None = None
    ) -> Budget | None:
        """The way in which `train` would go with these settings, and its predicted peak; None without a memory limit.

        Raises:
            MemoryLimitTooSmall: no way with these settings fits into the limit. Pictures and layers are not reduced
                here: that is done when a `Trainer` is made.
        """
        return self._planned(self._defaults.changed(rank=rank, batch_size=batch_size, layers=layers))

    def train(
        self,
        *,
        steps: int | None = None,
        minutes: float | None = None,
        start: Adapter | None = None,
        frozen: Weighted = (),
        share: Share = Share.BOTH,
        seed: int = 0,
        rank: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        layers: LayerSet | None = None,
        guard: Guard | None = None,
        on_step: Callable[[Progress], None] | None = None,
        checkpoint: Path | str | None = None,
        checkpoint_seconds: float = 20.0,
    ) -> TrainingResult:
        """Train until `steps` are done or `minutes` are over, whichever comes first.

        With a `checkpoint`, the state is saved there every `checkpoint_seconds`, at the end, and when `on_step` ends
        it. If the file exists already, the training resumes from it. On the same machine with as many threads, a
        training that was killed and resumed gives the same bits as an uninterrupted one. Delete the file once the
        adapter is saved. If it cannot be written, there is a warning, `CheckpointUnwritten`, and the training goes on.

        Args:
            start: the adapter to go on from; None starts from the common initialisation of `seed`.
            frozen: (adapter, weight) pairs that lie under the trained one and do not change.
            share: which of the factors to train; the others stay as they start.
            seed: the same seed gives the same initial factors on every device; the noise also depends on the pictures
                and `start`.
            rank, batch_size, learning_rate, layers: for this training only; None takes the trainer's.
            guard: what to look at while training, and when to stop before the time is over; None never does.
            checkpoint: file for the state of the training; None saves none.
            checkpoint_seconds: seconds between two saves of the state.
            on_step: called after every step; an error that it raises ends the training, and is raised here, after the
                state is saved.

        Raises:
            TrainingError: neither steps nor minutes are given, or the loss is not finite.
            CheckpointError: the checkpoint is damaged or of another training; it is left as it is.
            AdapterMismatch, AdapterValueError: `start` or a frozen adapter does not fit the base model.
            MemoryLimitTooSmall: see `plan`.
            OutOfMemory: the system did not give the memory for such a batch.
        """
        limits = [limit for limit in (steps, minutes) if limit is not None]
        if not limits or not all(limit > 0 for limit in limits):
            raise TrainingError("Say how long to train: steps=200 or minutes=10.")
        path = expanded(checkpoint) if checkpoint is not None else None
        settings = self._defaults.changed(rank=rank, batch_size=batch_size, learning_rate=learning_rate, layers=layers)
        draws = self._draws(seed, start, settings.batch_size)
        watched = self._watched(guard)
        run = self._run_id(draws, settings, frozen, share, guard, watched)
        planned = self._planned(settings)
        if planned:
            _LOG.info("Training %s.", planned)
        at_once = planned.way.at_once if planned else settings.batch_size
        with ExitStack() as stack:
            stack.enter_context(_enough_memory())
            stack.enter_context(limited_threads(self._threads))
            stack.enter_context(self._checkpointing(planned is not None and planned.way.checkpointing))
            stack.enter_context(self._slots.laid_on(frozen))
            lora = stack.enter_context(self._slots.trained(start, settings.rank, seed, share, settings.layers))
            parameters = list(lora.parameters.values())
            optimizer = torch.optim.Adam(parameters, settings.learning_rate, betas=(0.9, 0.99))
            state = load_checkpoint(path, run, lora.parameters, optimizer) if path else State()
            began, saved = time.monotonic() - state.seconds, time.monotonic()
            if guard and not state.looks:
                self._look(guard, watched, lora, state)
            while not _done(state, steps, minutes, guard):
                optimizer.zero_grad()
                loss = self._gradients(draws.step(len(state.losses)), at_once)
                if not math.isfinite(loss):
                    raise TrainingError(
                        f"The loss is {loss} at step {len(state.losses) + 1}: use a smaller learning rate."
                    )
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                state.losses.append(loss)
                state.seconds = time.monotonic() - began
                if guard and (len(state.losses) % guard.every == 0 or _done(state, steps, minutes, None)):
                    self._look(guard, watched, lora, state)
                if path and (time.monotonic() - saved >= checkpoint_seconds or _done(state, steps, minutes, guard)):
                    keep_checkpoint(path, run, state, lora.parameters, optimizer)
                    saved = time.monotonic()
                if on_step:
                    try:
                        on_step(Progress(len(state.losses), steps, loss, state.seconds, lora.adapter))
                    except BaseException:
                        if path:  # who ends it here goes on from this step
                            keep_checkpoint(path, run, state, lora.parameters, optimizer)
                        raise
            return self._result(lora, state, guard)

    def evaluate(
        self, adapters: Weighted = (), pictures: Pictures | None = None, *, seed: int = 0, levels: int = 8
    ) -> float:
        """Mean denoising loss of the base model with these adapters; smaller is better.

        Noise and timesteps are fixed by `seed`, so that adapters can be compared: for every picture, one timestep from
        each of `levels` equal parts of the schedule. All timesteps weigh the same here.

        Args:
            adapters: (adapter, weight) pairs; none for the base model alone.
            pictures: pictures that were not trained on; None takes the trained ones.
        """
        with limited_threads(self._threads), self._slots.laid_on(adapters):
            data = self._pictures if pictures is None else self._encoded_for_judging(pictures)
            return self._fixed_loss(data, seed, levels)

    def _fixed_loss(self, data: Encoded, seed: int, levels: int) -> float:
        """Mean loss of the UNet as it is now, with whatever adapters lie on it, at fixed noise."""
        shape, timesteps = data.latent_shape, self._objective.timesteps
        at_once = self.budget.way.at_once if self.budget else levels
        draws = [evaluation_draw(picture, levels, timesteps, shape, seed) for picture in range(len(data))]
        with torch.no_grad():
            total = sum(float(self._errors(part, data).sum()) for draw in draws for part in draw.split(at_once))
        return total / (levels * len(data))

    def _result(self, lora: Trained, state: State, guard: Guard | None) -> TrainingResult:
        steps = len(state.losses)
        kept, stopped = steps, None
        if guard:
            kept, stopped = state.looks[best_of(state.looks, guard)].step, reason_to_stop(state.looks, guard)
            for name, value in state.best.items():
                lora.parameters[name].data.copy_(value)
        n = min(50, max(1, steps // 4))
        stats = TrainingStats(
            pictures=self.pictures,
            first_loss=sum(state.losses[:n]) / n,
            last_loss=sum(state.losses[-n:]) / n,
            train_seconds=state.seconds,
        )
        return TrainingResult(lora.adapter(), stats, steps, kept, stopped)

    def _watched(self, guard: Guard | None) -> tuple[Encoded | None, Encoded | None]:
        """The held-out and the prior pictures of a guard, encoded."""
        if guard is None:
            return None, None
        held_out, prior = (
            None if pictures is None else self._encoded_for_judging(pictures)
            for pictures in (guard.held_out, guard.prior)
        )
        return held_out, prior

    def _look(self, guard: Guard, watched: tuple[Encoded | None, Encoded | None], lora: Trained, state: State) -> None:
        """Measure the losses of a guard now, and keep the parameters if they are the best so far."""
        losses = [math.nan if data is None else self._fixed_loss(data, 0, guard.levels) for data in watched]
        state.looks.append(Look(len(state.losses), *losses))
        if best_of(state.looks, guard) == len(state.looks) - 1:
            state.best = {name: parameter.detach().clone() for name, parameter in lora.parameters.items()}

    def _planned(self, settings: TrainingSettings) -> Budget | None:
        """The way to train with these settings, pictures and weights being what they are."""
        if self._planner is None:
            return None
        return self._planner.choose(
            [self.image_size], [settings.layers], [self._storage], rank=settings.rank, batch_size=settings.batch_size
        )

    @contextmanager
    def _checkpointing(self, on: bool) -> Iterator[None]:
        """Let the UNet compute activations a second time inside, instead of keeping them."""
        if not on:
            yield
            return
        self._unet.enable_gradient_checkpointing(computed_again)
        try:
            yield
        finally:
            self._unet.disable_gradient_checkpointing()

    def _gradients(self, draw: Draw, at_once: int) -> float:
        """Add the gradients of a step, so many pictures at once, and return its loss."""
        total = 0.0
        for part in draw.split(at_once):
            with fast_attention(part.noise.shape[-1]):
                weights = self._objective.weights(part.timesteps, self._gamma)
                loss = (weights * self._errors(part, self._pictures)).mean() * (len(part) / len(draw))
                loss.backward()
            total += loss.item()
        return total

    def _errors(self, draw: Draw, data: Encoded) -> Tensor:
        """Mean squared error of each picture of the draw, (n,)."""
        latents = data.latents[draw.indices]
        if data.mirrored is not None:
            latents = torch.where(draw.mirrored[:, None, None, None], data.mirrored[draw.indices], latents)
        prompts = torch.where(draw.dropped[:, None, None], data.empty_prompt, data.prompts[draw.indices])
        noised = self._objective.noised(latents, draw.noise, draw.timesteps).contiguous(
            memory_format=torch.channels_last
        )
        with fast_kernels(self.precision, latents.shape[-1]):
            predicted = self._unet(noised, draw.timesteps, prompts).sample
        target = self._objective.target(latents, draw.noise, draw.timesteps)
        return (predicted.float() - target).square().mean(dim=(1, 2, 3))

    def _encoded(self, captioned: Captioned, *, mirror: bool = False) -> Encoded:
        return encode(self._model, captioned, mirror, self._kept)

    def _encoded_for_judging(self, pictures: Pictures) -> Encoded:
        """Encoded held-out pictures. The last two sets are kept, as the same ones are usually asked for again."""
        captioned = gather(pictures, self.image_size)
        known = self._judged.pop(captioned.digest, None)
        if known is None:
            known = self._encoded(captioned)
        self._judged = dict([*self._judged.items(), (captioned.digest, known)][-2:])
        return known

    def _draws(self, seed: int, start: Adapter | None, batch_size: int) -> Draws:
        data = self._pictures
        # Devices share the seed, but neither they nor two rounds of one device may share the noise.
        key = f"{seed}/{data.digest}/{_digest(start)}"
        return Draws(key, len(data), batch_size, self._objective.timesteps, data.latent_shape, self._dropout)

    def _run_id(
        self,
        draws: Draws,
        settings: TrainingSettings,
        frozen: Weighted,
        share: Share,
        guard: Guard | None,
        watched: tuple[Encoded | None, Encoded | None],
    ) -> str:
        """Hash of everything on which the result of a training depends, except its length."""
        decisive = [
            *(self.base_id, self.precision, self._gamma, self._mirror, self._dropout, draws.key),
            *(settings.rank, settings.batch_size, settings.learning_rate, settings.layers, share.value),
            *([_digest(adapter), weight] for adapter, weight in frozen),
        ]
        if guard:
            decisive += [guard.every, guard.patience, guard.drift, guard.levels]
            decisive += [data.digest if data else None for data in watched]
        if self._storage != self.precision:
            decisive.append(self._storage)
        return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()


@contextmanager
def _enough_memory() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch's are of the former kind
        if not is_lack_of_it(error):
            raise
        raise OutOfMemory(
            "There is not enough memory to train so: use a smaller batch_size, and a smaller rank if 1 is too much."
        ) from error


def _done(state: State, steps: int | None, minutes: float | None, guard: Guard | None) -> bool:
    out_of_time = minutes is not None and state.seconds >= 60 * minutes
    stopped = guard is not None and reason_to_stop(state.looks, guard) is not None
    return out_of_time or stopped or (steps is not None and len(state.losses) >= steps)


def _digest(adapter: Adapter | None) -> str:
    return hashlib.sha256(to_bytes(adapter)).hexdigest() if adapter else ""
