"""The stickers base model, as benchmarks use it."""

from __future__ import annotations

import functools
from pathlib import Path

from benchmarks.shared.harness import KEPT
from edge_sdk.errors import ImpastoError
from edge_sdk.inference import Bundle, compute_base_id
from edge_sdk.privacy import basis_id

MODEL = Path("samples/stickers/model")


@functools.cache
def base_id() -> str:
    """The base model's identity, on which results depend."""
    return compute_base_id(MODEL)


def bundle() -> Path:
    """The base model's bundle, with slots for adapters of all layers: an earlier run's if it was made from this model
    and these public captions, otherwise exported now."""
    from export import export_model
    from export.source import captions_for

    folder = KEPT / "stickers-all-layers"
    try:
        index = Bundle.load(folder).index
        known, basis = index.prompt_basis, basis_id(base_id(), captions_for(MODEL))
        if known is not None and (index.base_id, known.id) == (base_id(), basis):
            return folder
    except ImpastoError:
        pass
    return export_model(MODEL, folder, verify=False, overwrite=True, slots="all").folder
