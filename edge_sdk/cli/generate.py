"""The command `impasto generate`."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from edge_sdk.cli import adapters, connection
from edge_sdk.cli.output import checked_output
from edge_sdk.cli.terminal import console, printed_warnings, progress_bar

if TYPE_CHECKING:
    from edge_sdk.device import Assist
    from edge_sdk.inference import Decoder
    from edge_sdk.inference.sampling import Latents
    from edge_sdk.wire import Form

_STRENGTH = 0.75


def generate(
    prompt: Annotated[str, typer.Argument(help="What to draw.", show_default=False)],
    bundle: Annotated[Path, typer.Option("--bundle", "-b", help="Folder made by impasto-export.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the picture goes; the suffix is the format.")] = Path(
        "picture.png"
    ),
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            "--adapter",
            "-a",
            help="Draw with an adapter; repeat it to mix several. FILE, or with --home: root, cluster, leaf. "
            "A weight may follow: mine.safetensors:0.7",
            show_default=False,
        ),
    ] = None,
    home: Annotated[
        Path | None, typer.Option(help="Home folder of a device, for its adapters.", show_default=False)
    ] = None,
    hybrid: Annotated[
        str,
        typer.Option(
            help="How several adapters draw together: merge, guide (merged, and their styles strengthened by "
            "guidance; also for one adapter), switch (turns by step), composite (averaged guidance, "
            "as many times as long), select (one of two in each layer, content first), steer, patches or bands (what "
            "each changes in the picture, added up everywhere, by places or by frequencies; 1 + half their number "
            "times as long)."
        ),
    ] = "merge",
    negative: Annotated[str, typer.Option("--negative", "-n", help="What to keep away from.")] = "",
    seed: Annotated[
        int | None, typer.Option("--seed", "-s", min=0, help="The same seed draws the same picture.")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, max=1000, help="More steps, finer picture.", show_default="what the bundle says"),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            help="How strongly to follow the prompt; 1 is twice as fast.", show_default="what the bundle says"
        ),
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="ddim, dpm++, euler or lcm.", show_default="what the bundle says")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Pixels: 512, or width x height as in 768x512.", show_default="as trained")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", "-p", help="Start from this picture.", show_default=False)
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(help="With --picture: how far to go away from it, above 0 and up to 1.", show_default="0.75"),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Decode with the bundle's preview decoder.")] = False,
    tile: Annotated[
        int | None,
        typer.Option(min=1, help="Decode in tiles of so many pixels, to save memory.", show_default="all at once"),
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=64, help="How many pictures.")] = 1,
    reuse: Annotated[
        int, typer.Option(min=1, help="Compute the UNet's deep part at every n-th step only: faster, less exact.")
    ] = 1,
    backend: Annotated[
        str, typer.Option(help="What to draw with: cpu, auto for the fastest that works, or one of impasto doctor's.")
    ] = "cpu",
    memory_limit: Annotated[
        str | None, typer.Option(help="Memory that drawing may take, such as 1.5GB.", show_default="no limit")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.", show_default="all cores")] = None,
    assist: Annotated[
        str | None,
        typer.Option(
            help="Let a helper of the federation of --home draw the first steps. What it gets of the prompt: open (its "
            "token ids, which are the caption in clear), or blank (nothing). Needs --broker.",
            show_default="off",
        ),
    ] = None,
    assist_steps: Annotated[
        str, typer.Option(help="With --assist: how many steps, or auto for as many as save time.")
    ] = "auto",
    broker: Annotated[
        str | None,
        typer.Option("--broker", help="With --assist: mqtt://host:1883, or mqtts://host:8883.", show_default=False),
    ] = None,
    ca: connection.Authority = None,
    certificate: connection.Certificate = None,
    key: connection.Key = None,
    username: connection.Username = None,
    password_file: connection.PasswordFile = None,
    client_id: connection.ClientId = "",
) -> None:
    """Draw a picture: offline, unless --assist asks for help.

    impasto generate "a fox" -b bundle/ -o fox.png -a mine.safetensors:0.8
    """
    from edge_sdk.inference import HYBRIDS, SCHEDULERS, Generator, Order
    from edge_sdk.pictures import open_picture, save_picture

    if scheduler is not None and scheduler not in SCHEDULERS:
        raise typer.BadParameter(f"there is no scheduler {scheduler!r}; choose one of {', '.join(SCHEDULERS)}.")
    if hybrid not in HYBRIDS:
        raise typer.BadParameter(f"there is no hybrid {hybrid!r}; choose one of {', '.join(HYBRIDS)}.")
    _refuse_what_would_have_no_effect(adapter or [], home, hybrid, picture, strength)
    wish = None
    if assist is not None:
        wish = _wish(assist, assist_steps, broker, home, picture, count, reuse)
        wish = replace(
            wish, broker=connection.settings(broker or "", ca, certificate, key, username, password_file, client_id)
        )
    elif broker is not None or assist_steps != "auto":
        raise typer.BadParameter("--broker and --assist-steps are for helpers: say --assist open or blank as well.")
    files = [out] if count == 1 else [out.with_stem(f"{out.stem}-{i}") for i in range(1, count + 1)]
    for file in files:
        checked_output(file)
    sides = None if size is None else _sides(size)
    start = None if picture is None else open_picture(picture)
    terms = adapters.read(adapter or [], home)
    try:
        generator = Generator.load(bundle, threads=threads, backend=backend, memory_limit=memory_limit)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    index = generator.bundle.index
    strong = index.defaults.guidance if guidance is None else guidance
    if negative and (strong <= 1 or index.guidance_dim is not None):
        raise typer.BadParameter(
            f"--negative would have no effect: with this bundle at guidance {strong:g} nothing is kept away from. Give "
            "a --guidance above 1, with a bundle that takes it, or leave --negative out."
        )
    order = Order(
        prompt=prompt,
        negative_prompt=negative,
        seed=seed,
        steps=steps,
        guidance=guidance,
        scheduler=scheduler,
        adapters=terms,
        hybrid=hybrid,
        size=sides,
        picture=start,
        strength=_STRENGTH if strength is None else strength,
        reuse=reuse,
        count=count,
    )
    decoder: Decoder = "quick" if quick else "full"
    came = ""
    began = time.monotonic()
    with printed_warnings(), progress_bar() as bar:
        task = bar.add_task("drawing", total=None, note="")

        def on_step(step: int, of: int, latents: Latents) -> None:
            bar.update(task, completed=step, total=of)

        try:
            if wish is None or home is None:
                pictures = generator.draw(order, decoder=decoder, tile=tile, on_step=on_step)
            else:
                from edge_sdk.device import Home, draw_assisted

                pictures, assistance = draw_assisted(
                    generator, order, wish, Home(home), adapters.weights(adapter or [], home),
                    decoder=decoder, tile=tile, on_step=on_step,
                )  # fmt: skip
                came = f"; {assistance}"
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
    for drawn, file in zip(pictures, files, strict=True):
        save_picture(drawn, file)
    console().print(
        f"{', '.join(map(str, files))} in {time.monotonic() - began:.1f} s{came}", soft_wrap=True, markup=False
    )


def _wish(
    form: str, steps: str, broker: str | None, home: Path | None, picture: Path | None, count: int, reuse: int
) -> Assist:
    """The wish for help that the options state, without its connection."""
    from edge_sdk.device import Assist
    from edge_sdk.errors import ConfigurationError

    if broker is None or home is None:
        raise typer.BadParameter(
            "--assist needs --home, the home with which this device has joined, and --broker, that of its federation."
        )
    if picture is not None or count > 1 or reuse > 1:
        raise typer.BadParameter(
            "--assist is for one picture from noise alone: leave --picture, --count and --reuse out."
        )
    try:
        return Assist(broker, cast("Form", form), "auto" if steps == "auto" else int(steps))
    except ValueError as error:
        raise typer.BadParameter(f"--assist-steps is a number of steps, or auto, not {steps!r}.") from error
    except ConfigurationError as error:
        raise typer.BadParameter(str(error)) from error


def _refuse_what_would_have_no_effect(
    names: list[str], home: Path | None, hybrid: str, picture: Path | None, strength: float | None
) -> None:
    if home is not None and not names:
        raise typer.BadParameter(
            "--home says where adapters are, and no --adapter says which: add -a root -a cluster -a leaf, or those of "
            "them that you want."
        )
    # `select` itself says how many adapters it takes; `guide` and `steer` differ from `merge` even with one adapter.
    if hybrid not in ("merge", "guide", "select", "steer") and len(names) < 2:
        raise typer.BadParameter(
            f"--hybrid {hybrid} says how several adapters draw together: give two of them with --adapter, or leave it "
            "out."
        )
    if strength is not None and picture is None:
        raise typer.BadParameter("--strength says how far to go away from a picture: give that with --picture.")


def _sides(text: str) -> tuple[int, int]:
    """Width and height of "512" or "768x512"."""
    wide, cross, tall = text.lower().partition("x")
    try:
        return int(wide), int(tall if cross else wide)
    except ValueError as error:
        raise typer.BadParameter(
            f"--size is a number of pixels, or width x height such as 768x512, not {text!r}."
        ) from error
