"""The command `impasto info`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_sdk.cli.terminal import console


def info(
    path: Annotated[Path, typer.Argument(help="A bundle, an adapter file, or a base model.", show_default=False)],
) -> None:
    """Show what a bundle, an adapter or a base model is. Those with the same base id belong together."""
    from rich.table import Table
    from rich.text import Text

    if path.is_file():
        title, rows = "adapter", _adapter(path)
    elif (path / "model_index.json").is_file() and not (path / "impasto.json").is_file():
        title, rows = "base model", _model(path)
    else:
        title, rows = "bundle", _bundle(path)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in ({title: str(path)} | rows).items():
        table.add_row(name, Text(value))
    console().print(table)


def _bundle(path: Path) -> dict[str, str]:
    from edge_sdk.inference import Bundle

    bundle = Bundle.load(path)
    index = bundle.index
    size = sum((path / name).stat().st_size for name in index.files)
    encoder = index.image_encoder
    return {
        "base id": index.base_id,
        "draws": f"{index.image_size} x {index.image_size} pixels",
        "LoRA slots": str(len(index.slots)),
        "picture codes": "none, it has no image encoder"
        if encoder is None
        else f"{encoder.dimensions} numbers, by image encoder {encoder.id[:12]}…",
        "files": f"{len(index.files)}, {_megabytes(size)}, all as they were exported",
        "made with": ", ".join(f"{name} {version}" for name, version in sorted(index.versions.items())) or "not stated",
    }


def _adapter(path: Path) -> dict[str, str]:
    from edge_sdk import adapter

    loaded = adapter.load(path)
    ranks = sorted({factors.rank for factors in loaded.layers.values()})
    notes = {f"note {name}": value for name, value in loaded.notes.items()}
    return {
        "base id": loaded.base_id or "not stated",
        "layers": str(len(loaded.layers)),
        "rank": str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}",
        "parameters": f"{loaded.parameters:,}",
        "norm": f"{adapter.norm(loaded):.4g}",
        "size": _megabytes(path.stat().st_size),
        **notes,
    }


def _model(path: Path) -> dict[str, str]:
    from edge_sdk.errors import BundleError
    from edge_sdk.inference import compute_base_id
    from edge_sdk.inference.bundle import obstacle_in
    from edge_sdk.inference.sampling import NoiseSchedule, check_vocabulary

    base_id = compute_base_id(path)
    try:
        why = obstacle_in(path)
        NoiseSchedule.of_model(path)
        check_vocabulary(path / "tokenizer")
    except BundleError as error:
        why = str(error)
    if why is not None:
        return {"base id": base_id, "cannot be used": why}
    return {"base id": base_id, "to draw with it": f"impasto-export {path} bundle/"}


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
