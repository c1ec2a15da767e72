"""The command `impasto prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_sdk.cli.terminal import console


def prepare(
    bundle: Annotated[Path, typer.Argument(help="Folder made by impasto-export.", show_default=False)],
    cache: Annotated[
        Path | None, typer.Option(help="Where it goes.", show_default="$IMPASTO_CACHE, or your cache folder")
    ] = None,
) -> None:
    """Prepare a bundle for this processor now, instead of at the first drawing.

    Drawing then starts in a fraction of the time, and keeps a fraction of the weights in memory. `impasto doctor`
    shows beforehand how much disk this takes.
    """
    from edge_sdk.inference import Bundle
    from edge_sdk.inference.runtime import cache as caching
    from edge_sdk.inference.runtime import graphs, show_size
    from edge_sdk.inference.runtime import prepare as preparing

    folder = caching.cache_folder(cache)
    for stage, graph in graphs(Bundle.load(bundle, verify=False)).items():
        if preparing.pays(graph):
            ready = preparing.ready(graph, folder)
            text = (
                f"{stage}: {show_size(sum(path.stat().st_size for path in ready.parent.iterdir()))} in {ready.parent}"
            )
        else:
            text = f"{stage}: small, it is drawn with as it is"
        console().print(text, soft_wrap=True, markup=False)
