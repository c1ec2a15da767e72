"""The judge: a small classifier of style and subgroup that scores generated stickers.

    python -m samples.stickers.judge train       # on real pictures of all styles; writes the folder judge/
    python -m samples.stickers.judge measure     # scores the base model and writes its model card

Drawing devices and reports use `Judge`, which needs onnxruntime and numpy only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import typer
from PIL import Image

from samples.stickers import card as model_card
from samples.stickers.styles import STYLES

HERE = Path(__file__).parent
FOLDER = HERE / "judge"
CARD = "judge.json"
# Of latents whose standard deviation is 1.
MOST_NOISE = 0.2
# More guidance makes subjects plainer and colours louder than the style has them.
GUIDANCE = 1.5

app = typer.Typer(help=__doc__.splitlines()[0], no_args_is_help=True)


@dataclass(frozen=True)
class Verdict:
    """Shares of pictures, 0 to 1, whose style and whose subgroup the judge names as asked."""

    style_hit: float
    subject_hit: float


class Judge:
    """Tells the style and the emojibase subgroup of 64 x 64 pictures."""

    def __init__(self, folder: Path = FOLDER) -> None:
        labels = json.loads((folder / CARD).read_text("utf-8"))
        self.styles: list[str] = labels["styles"]
        self.subgroups: list[str] = labels["subgroups"]
        self._style, self._subgroup = (
            onnxruntime.InferenceSession(folder / f"{what}.onnx", providers=["CPUExecutionProvider"])
            for what in ("style", "subgroup")
        )

    def name(self, pictures: Sequence[Image.Image]) -> list[tuple[str, str]]:
        """The most likely (style, subgroup) of each picture."""
        pixels = np.stack([np.asarray(p.convert("RGB").resize((64, 64)), np.float32) for p in pictures])
        given = {"picture": pixels.transpose(0, 3, 1, 2) / 255}
        style, subgroup = (net.run(None, given)[0].argmax(1) for net in (self._style, self._subgroup))
        return [(self.styles[s], self.subgroups[g]) for s, g in zip(style, subgroup, strict=True)]

    def score(self, pictures: Sequence[Image.Image], asked: Sequence[tuple[str, str]]) -> Verdict:
        """Compare what the pictures show with what was asked for: one (style, subgroup) each."""
        named = self.name(pictures)
        hits = np.array([(n[0] == a[0], n[1] == a[1]) for n, a in zip(named, asked, strict=True)], np.float64)
        return Verdict(style_hit=float(hits[:, 0].mean()), subject_hit=float(hits[:, 1].mean()))


def held_out(file_name: str) -> bool:
    """One picture in eight is kept from the judge's training, by a hash of its name."""
    return hashlib.sha256(file_name.encode()).digest()[0] % 8 == 0


def redrawn(vae_folder: Path, pictures: npt.NDArray[np.uint8], seed: int = 0) -> npt.NDArray[np.uint8]:
    """The pictures as the base model's autoencoder redraws them, from latents that are a little off, each by another
    amount: that is what a denoiser leaves, and it shall be no news to the judge."""
    import torch
    import torch.nn.functional as functional
    from diffusers import AutoencoderKL

    from samples.stickers.pretraining.autoencoder import to_unit

    vae = AutoencoderKL.from_pretrained(vae_folder, torch_dtype=torch.float32).to(memory_format=torch.channels_last)
    rng = torch.Generator().manual_seed(seed)
    parts = []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for x in to_unit(pictures).split(64):
            latents = vae.encode(x).latent_dist.mean.float()
            white = torch.randn(latents.shape, generator=rng)
            smooth = 3 * functional.avg_pool2d(torch.randn(latents.shape, generator=rng), 3, 1, 1)
            level = MOST_NOISE * torch.rand(len(x), 1, 1, 1, generator=rng) / vae.config.scaling_factor
            parts.append(vae.decode(latents + level * (white + smooth) / 2**0.5).sample.float())
    pixels = torch.cat(parts).clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous().numpy()


@app.command()
def train(
    vae: Path = HERE / "model" / "vae",
    epochs: int = 30,
    only: str = typer.Option("", help='Train "style" or "subgroup" anew and keep the other.'),
    by_subject: bool = typer.Option(
        False, help="Hold out whole subjects instead of pictures; measures, ships nothing."
    ),
    seed: int = 0,
) -> None:
    """Train the judge on real pictures of all styles and ship it as ONNX."""
    from samples.stickers import data
    from samples.stickers.judging import NETS, export, fit

    if only not in ("", *NETS):
        raise typer.BadParameter(f"--only takes one of {', '.join(NETS)}.")
    stickers = data.read()
    pictures = data.pictures(stickers)
    test = np.array([s.split == "held-out" if by_subject else held_out(s.file_name) for s in stickers])
    names = {"style": list(STYLES), "subgroup": sorted({s.subgroup for s in stickers})}
    sources = {"real": pictures, "redrawn": redrawn(vae, pictures, seed)}
    card = json.loads((FOLDER / CARD).read_text("utf-8")) if (FOLDER / CARD).exists() else {}
    card |= {"styles": names["style"], "subgroups": names["subgroup"]}
    for what in [only] if only else NETS:
        labels = np.array([names[what].index(getattr(s, what)) for s in stickers])
        net, figures = fit(what, labels, sources, test, epochs, seed)
        if not by_subject:
            export(net, FOLDER / f"{what}.onnx")
            card[what] = {"parameters": sum(p.numel() for p in net.parameters()), "epochs": epochs, "seed": seed}
        for source, share in figures.items():
            kept = card.setdefault("held_out_subjects" if by_subject else "held_out", {}).setdefault(source, {})
            kept[what] = share
        typer.echo(f"{what}: {json.dumps(figures)} on {test.sum()} pictures not seen")
    (FOLDER / CARD).write_text(json.dumps(card, indent=1) + "\n", "utf-8")


@app.command()
def measure(
    model: Path = HERE / "model",
    captions: int = 200,
    steps: int = 25,
    guidance: float = GUIDANCE,
    sheet: Path = Path("out/pretrain/sheet-measured.png"),
) -> None:
    """Score the base model on captions of the base styles with seeds that nothing else uses."""
    from samples.stickers.judging import draw_captions

    asked, images = draw_captions(model, captions, steps, guidance)
    verdict = Judge().score(images, asked)
    page = Image.new("RGB", (20 * 66, (len(images) + 19) // 20 * 66), "white")
    for i, image in enumerate(images):
        page.paste(image, (i % 20 * 66 + 1, i // 20 * 66 + 1))
    sheet.parent.mkdir(parents=True, exist_ok=True)
    page.save(sheet)
    figures = {"captions": captions, "steps": steps, "guidance": guidance, **vars(verdict)}
    facts = json.loads((model / "trained.json").read_text("utf-8"))
    model_card.write(model, facts, figures, json.loads((FOLDER / CARD).read_text("utf-8")))
    typer.echo(json.dumps(figures))


if __name__ == "__main__":
    app()
