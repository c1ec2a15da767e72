"""The command `impasto train`."""

from __future__ import annotations

import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_sdk.cli import adapters
from edge_sdk.cli.interruption import Interruption
from edge_sdk.cli.output import check_outputs
from edge_sdk.cli.sizes import MemoryLimit
from edge_sdk.cli.terminal import console, printed_warnings, progress_bar
from edge_sdk.errors import OutputError, describe

if TYPE_CHECKING:
    from edge_sdk.adapter import Adapter
    from edge_sdk.training import Progress, TrainingResult

_RANK = 8


class _Interrupted(Exception):
    """Ctrl-C or SIGTERM has come, and the state of the training is saved."""


def train(
    pictures: Annotated[
        Path,
        typer.Argument(
            help="Folder of pictures with captions: in metadata.jsonl or .csv, or in a .txt file beside each.",
            show_default=False,
        ),
    ],
    model: Annotated[
        Path, typer.Option("--model", "-m", help="The base model: a diffusers folder.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the adapter goes.")] = Path("leaf.safetensors"),
    steps: Annotated[int | None, typer.Option(min=1, help="Stop after so many steps.", show_default=False)] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Stop after so much time.", show_default="10 without --steps")
    ] = None,
    rank: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1024,
            help="LoRA rank: more can learn more, and makes larger files.",
            show_default="8, or that of --start",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures a step.")] = 8,
    learning_rate: Annotated[
        float, typer.Option(min=1e-8, max=1, help="Larger learns faster, until it diverges.")
    ] = 1e-3,
    layers: Annotated[
        str,
        typer.Option(
            help="Layers to train: attention, transformer (feed-forward and projections too), or all (convolutions "
            "too); the bundle to draw with needs their slots (impasto-export --slots)."
        ),
    ] = "attention",
    mirror: Annotated[
        bool, typer.Option(help="Learn from mirrored pictures too; not for lettering, or if sides matter.")
    ] = True,
    guard: Annotated[
        bool,
        typer.Option(
            help="Keep one picture in eight, from twelve on, from training, stop when the loss on those rises, and "
            "keep the best adapter.",
        ),
    ] = True,
    start: Annotated[Path | None, typer.Option(help="Go on from this adapter.", show_default=False)] = None,
    under: Annotated[
        list[str] | None,
        typer.Option(
            help="An adapter that lies under the new one and stays as it is, such as root or cluster; "
            "FILE or FILE:WEIGHT, repeat it for several.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same adapter.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.", show_default="torch's choice")] = None,
    memory_limit: MemoryLimit = None,
) -> None:
    """Learn an adapter from your pictures, which stay where they are.

    impasto train my_pictures/ -m model/ -o mine.safetensors --minutes 10

    If it is interrupted, run the same command again: it goes on where it was. Ctrl-C and SIGTERM end it after the
    present step, without loss. The state lies beside the adapter, in a
    file that ends in .checkpoint. diffusers and PEFT load the adapter too.
    """
    from edge_sdk import adapter
    from edge_sdk.pictures import PictureLeftOut, load_pictures

    if layers not in adapter.LAYER_SETS:
        raise typer.BadParameter(f"--layers is one of {', '.join(adapter.LAYER_SETS)}, not {layers!r}.")
    if steps is None and minutes is None:
        minutes = 10.0
    below = adapters.read(under or [])
    first = adapter.load(start) if start else None
    if first and rank not in (None, first.rank):
        raise typer.BadParameter(
            f"--rank {rank} would have no effect: {start} has rank {first.rank}, and is gone on from. Leave one of "
            "them out."
        )
    checkpoint = out.with_name(f"{out.name}.checkpoint")
    check_outputs([out, checkpoint], "leaf.safetensors")
    from edge_sdk.training import CheckpointUnwritten, Guard, Trainer, image_size, keep_back  # torch takes seconds

    with printed_warnings(PictureLeftOut):
        own = load_pictures(pictures, image_size(model))
        own, held_out = keep_back(own) if guard else (own, [])
        trainer = Trainer(
            model,
            own,
            rank=rank or (first.rank if first else _RANK),
            batch_size=batch_size,
            learning_rate=learning_rate,
            layers=layers,
            mirror=mirror,
            threads=threads,
            memory_limit=memory_limit,
        )
    if trainer.budget:
        console(stderr=True).print(f"Learning {trainer.budget}.", soft_wrap=True, markup=False)
    interruption = Interruption("stopping after this step; once more ends at once")
    result: TrainingResult | None = None
    with (
        suppress(_Interrupted),
        interruption,
        printed_warnings(CheckpointUnwritten),
        progress_bar() as bar,
    ):
        task = bar.add_task(f"learning from {trainer.pictures} pictures", total=steps, note="")

        def on_step(progress: Progress) -> None:
            bar.update(task, completed=progress.step, note=f"loss {progress.loss:.3f}")
            if interruption.asked:
                raise _Interrupted

        result = trainer.train(
            steps=steps,
            minutes=minutes,
            start=first,
            frozen=below,
            seed=seed,
            guard=Guard(held_out) if held_out else None,
            on_step=on_step,
            checkpoint=checkpoint,
        )
    if result is None:
        said = "What was learnt is kept: run the same command again to go on."
        if not checkpoint.is_file():
            said = f"What was learnt is lost, as {checkpoint} could not be written."
        console(stderr=True).print(said, soft_wrap=True, markup=False)
        interruption.end()
    try:
        adapter.save(result.adapter, out)
    except OSError as error:
        if checkpoint.is_file():  # the same command goes on from it, once there is room
            raise
        raise _kept_elsewhere(result.adapter, out, error) from error
    checkpoint.unlink(missing_ok=True)
    stats = result.stats
    loss = f"loss {stats.first_loss:.3f} to {stats.last_loss:.3f}"
    if result.kept_step < result.steps:
        console().print(
            f"The adapter is that of step {result.kept_step}: what came after it made pictures that were kept from "
            "training worse.",
            soft_wrap=True,
        )
    console().print(
        f"{out}: {result.steps} steps in {stats.train_seconds:.0f} s, {loss}, "
        f"rank {result.adapter.rank}, {out.stat().st_size / 1e6:.1f} MB",
        soft_wrap=True,
        markup=False,
    )


def _kept_elsewhere(trained: Adapter, out: Path, error: OSError) -> OSError | OutputError:
    """The error to raise when neither the adapter nor a checkpoint could be written, as on a full disk.

    The adapter is kept in another place if one can be written, and the error names it.
    """
    from edge_sdk import adapter

    for folder in (Path.cwd(), Path(tempfile.gettempdir())):
        place = folder / f"{out.stem}-{secrets.token_hex(4)}.safetensors"
        try:
            adapter.save(trained, place)
        except OSError:
            continue
        return OutputError(f"{describe(error)}. What was learnt is in {place}: move it where you want it.")
    return error
