"""Is a bundle on disk still what an export would make?"""

from __future__ import annotations

from pathlib import Path

from edge_sdk.adapter import LAYER_SETS, LayerSet, in_layer_set
from edge_sdk.errors import BundleError
from edge_sdk.inference import Bundle, compute_base_id
from edge_sdk.inference.bundle import IMAGE_ENCODER, MODEL_INDEX, ImageEncoder, Slot, read_config
from edge_sdk.privacy import basis_id
from export.public_captions import captions_for


def is_current(bundle: Path, model: Path, slots: LayerSet = "attention") -> bool:
    """True if a folder holds what `export_model(model, bundle, slots=slots)` would make now, as far as devices differ.

    Compared are the format, the base id, the public captions of its basis of prompt codes, the layers that take
    adapters, the precision, fused LoRA files and the model's own image encoder. A bundle that is damaged, or of an
    earlier version, is not current. Needs torch only for a model with an image encoder, and only if all else is equal.

    Args:
        bundle: the folder.
        model: a diffusers folder.
        slots: the set of layers that take adapters.

    Raises:
        BundleMissing, BundleCorrupt: the model has no readable safetensors weights.
        ExportError: the model's captions.txt or its image encoder cannot be used.
    """
    base_id = compute_base_id(model)
    basis = basis_id(base_id, captions_for(model))
    try:
        index = Bundle.load(bundle).index
    except BundleError:
        return False
    return (
        index.takes_timesteps
        and index.base_id == base_id
        and index.prompt_basis is not None
        and index.prompt_basis.id == basis
        and _layer_set(index.slots) == slots
        and index.precision == "fp32"
        and not index.fused
        and _same_encoder(model, index.image_encoder)
    )


def _same_encoder(model: Path, known: ImageEncoder | None) -> bool:
    """True if a bundle's image encoder is the model's own one, or neither has one."""
    stated = read_config(model / MODEL_INDEX).get(IMAGE_ENCODER) if (model / MODEL_INDEX).is_file() else None
    has_one = isinstance(stated, list) and any(stated)
    if known is None or not has_one:
        return known is None and not has_one
    from export.source import own_image_encoder

    found = own_image_encoder(model)
    return found is not None and found.settings.id == known.id


def _layer_set(slots: list[Slot]) -> LayerSet:
    """The smallest set that holds all slots."""
    return next(which for which in LAYER_SETS if all(in_layer_set(slot.name, which) for slot in slots))
