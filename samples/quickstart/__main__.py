"""Draw, learn from 16 pictures, take part in a federation, draw again.

python -m samples.quickstart        a few minutes; the pictures are in out/quickstart
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_sdk import Device
from samples.quickstart.surroundings import federation, make_bundle, write_pictures

MODEL = Path(__file__).parents[1] / "stickers" / "model"
PROMPT = "black ink stamp of a fox"


def main(
    model: Annotated[Path, typer.Option(help="The base model: a diffusers folder.")] = MODEL,
    out: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("out/quickstart"),
    steps: Annotated[int, typer.Option(min=1, help="How long to learn.")] = 120,
) -> None:
    """Draw, learn, take part in a federation, draw again."""
    bundle = make_bundle(model, out / "bundle")
    pictures = write_pictures(out / "my_pictures", style="ink", count=16)

    device = Device(bundle, model=model, pictures=pictures, home=out / "home")
    device.generate(PROMPT, seed=1, adapters={}).save(out / "before.png")
    device.learn(steps=steps, afresh=True)
    device.generate(PROMPT, seed=1, adapters={"leaf": 1.0}).save(out / "learned.png")
    with federation(bundle, steps) as url, device.join(url, federation="quickstart") as membership:
        membership.run()
    device.generate(PROMPT, seed=1, adapters={"root": 1.0, "cluster": 1.0}).save(out / "shared.png")

    typer.echo(f"{out}: before.png, learned.png (its own leaf), shared.png (what the federation brought)")


if __name__ == "__main__":
    typer.run(main)
