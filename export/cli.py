"""Command line of the export, `impasto-export MODEL OUT`: a diffusers folder or hub id becomes a bundle."""

from __future__ import annotations

import importlib
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from edge_sdk.adapter import LAYER_SETS
from edge_sdk.cli.adapters import parse
from edge_sdk.errors import ImpastoError, describe
from edge_sdk.exits import exit_by_fault, exit_code
from edge_sdk.libraries import without_chatter
from edge_sdk.streams import take_any_text

if TYPE_CHECKING:
    from edge_sdk.inference.bundle import BundleIndex, BundlePrecision

_console = Console(stderr=True)
_TERMINATED = 128 + signal.SIGTERM


def export(
    model: Annotated[str, typer.Argument(help="A diffusers folder, or a hub id such as owner/name.")],
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    precision: Annotated[str, typer.Option(help="fp32, fp16 (graphics processors) or int8 (processors).")] = "fp32",
    calibrate: Annotated[
        Path | None, typer.Option(help="Prompts to calibrate int8 with, one a line, of the kind people will type.")
    ] = None,
    captions: Annotated[
        Path | None,
        typer.Option(
            help="Public captions of many styles, of which the basis of prompt codes is made: one a line, an empty "
            "line between styles; never an owner's.",
            show_default="captions.txt of the model, or common subjects in common styles",
        ),
    ] = None,
    verify: Annotated[bool, typer.Option(help="Compare every part with torch, without and with an adapter.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle that is already there.")] = False,
    slots: Annotated[
        str,
        typer.Option(
            help="Layers that take adapters: attention, transformer (feed-forward and projections too), or all "
            "(convolutions too, which LoCon files and LCM-LoRAs have)."
        ),
    ] = "attention",
    fuse: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE[:WEIGHT]", help="Add a LoRA file to the weights, such as an LCM-LoRA; may repeat."),
    ] = None,
    preview: Annotated[
        Path | None, typer.Option(help="An AutoencoderTiny (TAESD): previews, and quick decoding.", show_default=False)
    ] = None,
    image_encoder: Annotated[
        Path | None,
        typer.Option(
            help="A CLIPVisionModelWithProjection (CLIP ViT-B/32, for instance): devices make picture codes with it.",
            show_default="the model's own, if it has one",
        ),
    ] = None,
    no_image_encoder: Annotated[bool, typer.Option("--no-image-encoder", help="Leave the model's own out.")] = False,
    step_reuse: Annotated[
        bool, typer.Option("--step-reuse", help="Let devices compute the UNet's deep part at some steps only.")
    ] = False,
    steps: Annotated[int | None, typer.Option(help="Steps to draw with by default.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance to draw with by default.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="Scheduler to draw with by default.")] = None,
) -> None:
    """Export a Stable Diffusion pipeline to a bundle that devices draw with.

    impasto-export runwayml/stable-diffusion-v1-5 bundle/ --preview madebyollin/taesd-folder

    Four steps instead of 25, with an LCM-LoRA:

    impasto-export MODEL bundle/ --fuse lcm.safetensors --steps 4 --guidance 1 --scheduler lcm
    """
    if image_encoder is not None and no_image_encoder:
        raise typer.BadParameter("--image-encoder and --no-image-encoder exclude each other: leave one out.")
    if slots not in LAYER_SETS:
        raise typer.BadParameter(f"--slots is one of {', '.join(LAYER_SETS)}, not {slots!r}.")
    stated = {"steps": steps, "guidance": guidance, "scheduler": scheduler}
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    try:
        # torch takes seconds to import: --help needs none of this, and what is wrong with these files is said before.
        from export.precision import read_prompts
        from export.public_captions import read_captions

        prompts = None if calibrate is None else read_prompts(calibrate)
        public = None if captions is None else read_captions(captions)
        with _quiet():
            from export.bundle import export_model
            from export.source import FusedLora
        with Progress(*columns, console=_console) as progress:
            task = progress.add_task("start", total=1.0)
            made = export_model(
                model,
                out,
                # An unknown one is refused by name.
                precision=cast("BundlePrecision", precision),
                prompts=prompts,
                captions=public,
                verify=verify,
                overwrite=overwrite,
                slots=slots,
                fuse=[FusedLora(Path(name), weight) for name, weight in map(parse, fuse or [])],
                preview=preview,
                image_encoder=not no_image_encoder if image_encoder is None else image_encoder,
                step_reuse=step_reuse,
                defaults={name: value for name, value in stated.items() if value is not None},
                on_progress=lambda what, share: progress.update(task, description=what, completed=share),
            )
            progress.update(task, description="done", completed=1.0)
    except (ImpastoError, OSError) as error:
        _console.print(
            f"[bold red]{type(error).__name__}[/]: {escape(describe(error))}", highlight=False, soft_wrap=True
        )
        raise typer.Exit(exit_code(error)) from error
    _report(made.folder, made.index, made.errors)


def main() -> None:
    """Run the console script `impasto-export`. Exit codes: docs/exit-codes.md."""
    take_any_text()
    # SIGTERM raises an exception like Ctrl-C, so that half-written files are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)  # those show local variables
    app.command()(export)
    try:
        app()
    except Exception as error:
        exit_by_fault(error)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' warnings and progress bars from the terminal while they are imported, and afterwards.

    diffusers warns that optimum-onnx is installed, torch that torchvision is not, and each draws progress bars.
    """
    with without_chatter():
        yield
    # torch sets the levels of its loggers when it is imported.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    importlib.import_module("diffusers.utils.logging").disable_progress_bar()


def _report(folder: Path, index: BundleIndex, errors: dict[str, float]) -> None:
    if errors:
        table = Table("compared with torch, other precisions with float32", "relative error", box=None)
        for what, error in errors.items():
            table.add_row(what, f"{error:.1e}")
        _console.print(table)
    else:
        _console.print("not verified", style="yellow")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    for lora in index.fused:
        _console.print(
            f"{lora.name}: {lora.layers} layers fused, weight {lora.weight:g}", markup=False, highlight=False
        )
    what = f"{size / 1e6:.1f} MB, {len(index.slots)} LoRA slots, base id {index.base_id[:12]}…"
    _console.print(f"{folder}: {what}", markup=False, highlight=False, soft_wrap=True)
