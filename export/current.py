"""Is a bundle on disk still what an export would make?"""

from __future__ import annotations

from pathlib import Path

from edge_sdk.adapter import LAYER_SETS, LayerSet, in_layer_set
from edge_sdk.errors import BundleError
from edge_sdk.inference import Bundle, compute_base_id
from edge_sdk.inference.bundle import Slot
from edge_sdk.privacy import basis_id
from export.public_captions import captions_for


def is_current(bundle: Path, model: Path, slots: LayerSet = "attention") -> bool:
    """True if a folder holds what `export_model(model, bundle, slots=slots)` would make now, as far as devices differ.

    Compared are the format, the base id, the public captions of its basis of prompt codes, the layers that take
    adapters, the precision and fused LoRA files. A bundle that is damaged, or of an earlier version, is not current.
    Needs no torch.

    Args:
        bundle: the folder.
        model: a diffusers folder.
        slots: the set of layers that take adapters.

    Raises:
        BundleMissing, BundleCorrupt: the model has no readable safetensors weights.
        ExportError: the model's captions.txt cannot be used.
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
    )


def _layer_set(slots: list[Slot]) -> LayerSet:
    """The smallest set that holds all slots."""
    return next(which for which in LAYER_SETS if all(in_layer_set(slot.name, which) for slot in slots))
