"""The frozen UNet of a base model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch.utils.checkpoint import checkpoint

from edge_sdk.errors import BundleError, TrainingError
from edge_sdk.training.base_model.frozen import freeze
from edge_sdk.training.base_model.stored_weights import Storage, unet_weights
from edge_sdk.training.threads import MAKING_MODULES


def load_unet(
    model: Path, base_id: str = "", storage: Storage = "fp32", cache: Path | None = None
) -> UNet2DConditionModel:
    """The frozen UNet, channels last, its dropout off.

    Args:
        base_id: that of `model`; only a cache needs it.
        storage: the type of its matrices; norms and biases are float32.
        cache: the folder with prepared weights, which are mapped; None reads the base model's own into memory.

    Raises:
        TrainingError: the folder's UNet cannot be loaded.
    """
    with explained(model):
        unet = empty_unet(model)
        unet.load_state_dict(unet_weights(model, base_id, storage, cache), assign=True)
    freeze(unet)
    return unet


def empty_unet(model: Path) -> UNet2DConditionModel:
    """The UNet without weights (on torch's device "meta"), its dropout off."""
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(model / "unet"))
    return unet.eval()


# Checkpointing of one block of the UNet, which uses no random numbers: dropout is off.
computed_again = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)


@contextmanager
def explained(model: Path) -> Iterator[None]:
    """Turn the errors of diffusers and transformers for a damaged folder into a TrainingError."""
    try:
        with MAKING_MODULES:
            yield
    except BundleError as error:
        raise TrainingError(str(error)) from error
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise TrainingError(f"{model} cannot be loaded as a diffusers folder: {error}") from error
