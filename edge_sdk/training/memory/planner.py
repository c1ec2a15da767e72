"""Planner: the facts of one base model on this machine, from which the memory of its trainings follows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from edge_sdk.adapter import LayerSet
from edge_sdk.errors import TrainingError
from edge_sdk.inference.bundle import read_config
from edge_sdk.inference.runtime import hardware, keep_no_large_blocks, parse_size
from edge_sdk.training.base_model import Storage, weights_size
from edge_sdk.training.memory.budget import Budget, Facts, Way, chosen
from edge_sdk.training.memory.dry_run import Case, DryRuns
from edge_sdk.training.precision import TrainingPrecision

# Bytes of a process that has imported torch, where the system does not say.
_PROCESS = 350_000_000
# Tensors of the autoencoder's first level, of float32 numbers for each pixel and channel, that it holds at once with
# the copies of kernels. Measured at 512 x 512 pixels: 6.6.
_LEVELS = 7
# Bytes of the text encoder for a byte of its files, while its embeddings become float32. Measured for float16: 0.8.
_TEXT = 1.2


class Planner:
    """Chooses how to train one base model within a memory limit.

    Args:
        model: its diffusers folder.
        limit: bytes, or a text such as "2GB".
        precision: the precision to compute in.
        mapped: the UNet's weights are pages of a mapped file.

    Raises:
        TrainingError: `limit` is no size.
    """

    def __init__(self, model: Path, limit: int | str, precision: TrainingPrecision, *, mapped: bool) -> None:
        try:
            self._limit = parse_size(limit)
        except ValueError as error:
            raise TrainingError(f"memory_limit: {error}") from error
        keep_no_large_blocks()
        self._model = model
        self._precision = precision
        self._mapped = mapped
        self._runs = DryRuns(model)
        self._process = hardware.anonymous_memory() or _PROCESS
        unet, vae, text = (read_config(model / part / "config.json") for part in ("unet", "vae", "text_encoder"))
        self._latent = int(unet["in_channels"])
        self._halvings = len(vae.get("block_out_channels", (64,))) - 1
        self._width = int(vae.get("block_out_channels", (64,))[0])
        self._prompt = int(text.get("max_position_embeddings", 77)), int(unet["cross_attention_dim"])

    def choose(
        self,
        sizes: Sequence[int],
        layers: Sequence[LayerSet],
        storages: Sequence[Storage],
        *,
        rank: int,
        batch_size: int,
    ) -> Budget:
        """The best way within the limit; of sizes, layers and storages those that may be chosen, the best first.

        Raises:
            MemoryLimitTooSmall: none fits.
        """
        facts = Facts(
            model=self._model,
            process=self._process,
            mapped=self._mapped,
            weights={storage: self._runs.weights(storage) for storage in storages},
            storages=storages,
            encoding=self._encoding,
            step=partial(self._step, rank),
            parameters=partial(self._runs.parameters, rank),
        )
        return chosen(facts, self._limit, batch_size, sizes, layers)

    def _step(self, rank: int, way: Way) -> int:
        side = way.image_size >> self._halvings
        case = Case(
            latent_shape=(self._latent, side, side),
            prompt_shape=self._prompt,
            rank=rank,
            layers=way.layers,
            precision=self._precision,
            storage=way.storage,
            checkpointing=way.checkpointing,
        )
        return self._runs.peak(case, way.at_once)

    def _encoding(self, size: int) -> int:
        """Bytes that encoding takes beside the process: the text encoder's weights, or half of the autoencoder's, in
        float32, and one picture at its first level."""
        text, vae = (weights_size(self._model, part) for part in ("text_encoder", "vae"))
        return max(int(_TEXT * text), vae + 4 * _LEVELS * self._width * size * size)
