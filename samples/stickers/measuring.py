"""Quality of the base model's pictures: captions of known styles, of two styles, and of words that it never met.

python -m samples.stickers.measuring   # scores the base model and writes its card
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from diffusers import StableDiffusionPipeline
from PIL import Image
from rich.progress import track

from samples.stickers import card, data
from samples.stickers.base_styles import BASE_STYLES, combinations
from samples.stickers.judge import CARD, FOLDER, GUIDANCE, Judge
from samples.stickers.styles import STYLES, plain_caption

# Words that training never used, neither as a style nor as an unknown one: the devices' own, and a few more.
UNHEARD = (
    *(style.words for style in STYLES.values() if not style.base),
    "gingerbread biscuit",
    "papier-mache model",
    "macrame hanging",
    "tie-dyed cloth",
    "sgraffito pot",
    "bauhaus advert",
)
FIRST_SEED = 10_000


@dataclass(frozen=True)
class Asked:
    """A caption, the styles and the subgroup that its picture should show."""

    caption: str
    styles: tuple[str, ...]
    subgroup: str


def known(count: int) -> list[Asked]:
    """`count` captions with the styles and the subjects in turn."""
    names = list(BASE_STYLES)
    return [
        Asked(f"{BASE_STYLES[style].words} of {plain_caption(subject)}", (style,), subgroup)
        for at, (subject, subgroup) in enumerate(_subjects(count))
        for style in (names[at % len(names)],)
    ]


def pairs(count: int) -> list[Asked]:
    """`count` captions of two styles, "A and B of a fox", spread over all pairs that can be seen together."""
    chosen = random.Random(0).sample(combinations(), count)
    return [
        Asked(f"{BASE_STYLES[a].words} and {BASE_STYLES[b].words} of {plain_caption(subject)}", (a, b), subgroup)
        for (a, b), (subject, subgroup) in zip(chosen, _subjects(count), strict=True)
    ]


def unheard(count: int) -> list[Asked]:
    """`count` captions with a style in words that training never used."""
    return [
        Asked(f"{UNHEARD[at % len(UNHEARD)]} of {plain_caption(subject)}", (), subgroup)
        for at, (subject, subgroup) in enumerate(_subjects(count))
    ]


def _subjects(count: int) -> list[tuple[str, str]]:
    subjects = list({s.subject: s.subgroup for s in data.read(keep=lambda s: STYLES[s.style].base)}.items())
    return [subjects[at] for at in data.spread(len(subjects), count)]


def draw(
    pipe: StableDiffusionPipeline, asked: Sequence[Asked], steps: int, guidance: float, what: str
) -> list[Image.Image]:
    """A picture for each caption; its seed follows from the caption's place."""
    images: list[Image.Image] = []
    for at in track(range(0, len(asked), 20), description=what):
        part = asked[at : at + 20]
        generators = [torch.Generator().manual_seed(FIRST_SEED + at + i) for i in range(len(part))]
        images += pipe(
            [one.caption for one in part], num_inference_steps=steps, guidance_scale=guidance, generator=generators
        ).images
    return images


def page(images: Sequence[Image.Image], columns: int = 20) -> Image.Image:
    """The pictures side by side."""
    found = Image.new("RGB", (columns * 66, (len(images) + columns - 1) // columns * 66), "white")
    for i, image in enumerate(images):
        found.paste(image, (i % columns * 66 + 1, i // columns * 66 + 1))
    return found


def measure_model(
    model: Path, judge: Judge, captions: int, steps: int, guidance: float, sheets: Path
) -> dict[str, Any]:
    """Draw and judge; write a sheet for each kind of caption, and return the figures."""
    pipe = StableDiffusionPipeline.from_pretrained(model, torch_dtype=torch.float32, safety_checker=None)
    pipe.unet.to(memory_format=torch.channels_last)
    pipe.set_progress_bar_config(disable=True)
    sheets.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Any] = {"captions": captions, "steps": steps, "guidance": guidance}
    for what, asked in (("known", known(captions)), ("pairs", pairs(captions)), ("unheard", unheard(captions))):
        images = draw(pipe, asked, steps, guidance, what)
        page(images).save(sheets / f"{what}.png")
        if what == "pairs":
            figures[what] = asdict(judge.score_pairs(images, [((a.styles[0], a.styles[1]), a.subgroup) for a in asked]))
        elif what == "known":
            figures[what] = asdict(judge.score(images, [(a.styles[0], a.subgroup) for a in asked]))
        else:
            named = judge.name(images)
            hits = [name[1] == one.subgroup for name, one in zip(named, asked, strict=True)]
            figures[what] = {"subject_hit": sum(hits) / len(hits)}
    return figures


def main(
    model: Path = FOLDER.parent / "model",
    judge: Path = FOLDER,
    captions: int = 200,
    steps: int = 25,
    guidance: float = GUIDANCE,
    sheets: Annotated[Path, typer.Option(help="Folder for the sheets of what was drawn.")] = Path("out/pretrain"),
) -> None:
    """Score the base model on captions of the base styles with seeds that nothing else uses; write its card."""
    figures = measure_model(model, Judge(judge), captions, steps, guidance, sheets)
    facts = json.loads((model / "trained.json").read_text("utf-8"))
    card.write(model, facts, figures, json.loads((judge / CARD).read_text("utf-8")))
    typer.echo(json.dumps(figures, indent=1))


if __name__ == "__main__":
    typer.run(main)
