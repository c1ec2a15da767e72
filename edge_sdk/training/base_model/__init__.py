"""The frozen UNet: its layers, and its weights as they are stored.

frozen.py          layers that take no gradient, and may compute in more bits than their weights are stored in
stored_weights.py  weights laid out once, and mapped
unet.py            the UNet made of both
"""

from __future__ import annotations

from edge_sdk.training.base_model.frozen import freeze
from edge_sdk.training.base_model.stored_weights import (
    Storage,
    WeightsNotPrepared,
    known_base_id,
    laid_out,
    stored_size,
    training_cache,
    viewed,
    weights_size,
)
from edge_sdk.training.base_model.unet import computed_again, empty_unet, explained, load_unet

__all__ = [
    "Storage",
    "WeightsNotPrepared",
    "computed_again",
    "empty_unet",
    "explained",
    "freeze",
    "known_base_id",
    "laid_out",
    "load_unet",
    "stored_size",
    "training_cache",
    "viewed",
    "weights_size",
]
