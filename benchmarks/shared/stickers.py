"""The stickers base model, as benchmarks use it."""

from __future__ import annotations

import functools
from pathlib import Path

from benchmarks.shared.harness import KEPT
from edge_sdk.inference import Generator, compute_base_id

MODEL = Path("samples/stickers/model")


@functools.cache
def base_id() -> str:
    """The base model's identity, on which results depend."""
    return compute_base_id(MODEL)


def bundle() -> Path:
    """The base model's bundle, with slots for adapters of all layers: an earlier run's if it was made from this model
    and these public captions, otherwise exported now."""
    from export import export_model, is_current

    folder = KEPT / "stickers-all-layers"
    if is_current(folder, MODEL, "all"):
        return folder
    return export_model(MODEL, folder, verify=False, overwrite=True, slots="all").folder


@functools.cache
def generator() -> Generator:
    """A generator of the bundle on one thread, one in each process of a study."""
    return Generator.load(bundle(), threads=1, verify=False)
