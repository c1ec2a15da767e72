"""The stickers base model, as benchmarks use it."""

from __future__ import annotations

import functools
from pathlib import Path

from benchmarks.shared.harness import KEPT
from edge_sdk.errors import ImpastoError
from edge_sdk.inference import Bundle, compute_base_id

MODEL = Path("samples/stickers/model")


@functools.cache
def base_id() -> str:
    """The base model's identity, on which results depend."""
    return compute_base_id(MODEL)


def bundle() -> Path:
    """The base model's bundle, with slots for adapters of all layers: an earlier run's if it was made from this model,
    otherwise exported now."""
    from export import export_model

    folder = KEPT / "stickers-all-layers"
    try:
        index = Bundle.load(folder).index
        if index.base_id == base_id() and index.prompt_basis is not None:
            return folder
    except ImpastoError:
        pass
    return export_model(MODEL, folder, verify=False, overwrite=True, slots="all").folder
