"""The judge: a small classifier of style and subgroup that scores generated stickers.

    python -m samples.stickers.judge train       # on real pictures of all styles; writes judge.onnx and judge.json
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

from samples.stickers import card

HERE = Path(__file__).parent
MODEL, CARD = HERE / "judge" / "judge.onnx", HERE / "judge" / "judge.json"

app = typer.Typer(help=__doc__.splitlines()[0], no_args_is_help=True)


@dataclass(frozen=True)
class Verdict:
    """Shares of pictures, 0 to 1, whose style and whose subgroup the judge names as asked."""

    style_hit: float
    subject_hit: float


class Judge:
    """Tells the style and the emojibase subgroup of 64 x 64 pictures."""

    def __init__(self, model: Path = MODEL, card: Path = CARD) -> None:
        labels = json.loads(card.read_text("utf-8"))
        self.styles: list[str] = labels["styles"]
        self.subgroups: list[str] = labels["subgroups"]
        self._session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

    def name(self, pictures: Sequence[Image.Image]) -> list[tuple[str, str]]:
        """The most likely (style, subgroup) of each picture."""
        pixels = np.stack([np.asarray(p.convert("RGB").resize((64, 64)), np.float32) for p in pictures])
        style, subgroup = self._session.run(None, {"picture": pixels.transpose(0, 3, 1, 2) / 255})
        return [(self.styles[s], self.subgroups[g]) for s, g in zip(style.argmax(1), subgroup.argmax(1), strict=True)]

    def score(self, pictures: Sequence[Image.Image], asked: Sequence[tuple[str, str]]) -> Verdict:
        """Compare what the pictures show with what was asked for: one (style, subgroup) each."""
        named = self.name(pictures)
        hits = np.array([(n[0] == a[0], n[1] == a[1]) for n, a in zip(named, asked, strict=True)], np.float64)
        return Verdict(style_hit=float(hits[:, 0].mean()), subject_hit=float(hits[:, 1].mean()))


def held_out(file_name: str) -> bool:
    """One picture in eight is kept from the judge's training, by a hash of its name."""
    return hashlib.sha256(file_name.encode()).digest()[0] % 8 == 0


def reconstructions(vae_folder: Path, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The pictures as the base model's autoencoder redraws them, so that its blur is no news to the judge."""
    import torch
    from diffusers import AutoencoderKL

    from samples.stickers.pretraining.autoencoder import to_unit

    vae = AutoencoderKL.from_pretrained(vae_folder, torch_dtype=torch.float32).to(memory_format=torch.channels_last)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        parts = [vae.decode(vae.encode(x).latent_dist.mean).sample.float() for x in to_unit(pictures).split(64)]
    redrawn = torch.cat(parts).clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return redrawn.permute(0, 2, 3, 1).contiguous().numpy()


@app.command()
def train(
    vae: Path = HERE / "model" / "vae",
    epochs: int = 30,
    by_subject: bool = typer.Option(
        False, help="Hold out whole subjects instead of pictures; measures, ships nothing."
    ),
    seed: int = 0,
) -> None:
    """Train the judge on real pictures of all styles and ship it as ONNX."""
    from samples.stickers import data
    from samples.stickers.judging import fit

    stickers = data.read()
    pictures = data.pictures(stickers)
    test = np.array([s.split == "held-out" if by_subject else held_out(s.file_name) for s in stickers])
    report = fit(stickers, pictures, reconstructions(vae, pictures), test, epochs, seed, None if by_subject else MODEL)
    typer.echo(json.dumps({key: value for key, value in report.items() if key not in ("styles", "subgroups")}))
    if by_subject:
        known = json.loads(CARD.read_text("utf-8"))
        known["held_out_subjects"] = report["held_out"]
        CARD.write_text(json.dumps(known, indent=1), "utf-8")
    else:
        CARD.write_text(json.dumps(report, indent=1), "utf-8")


@app.command()
def measure(
    model: Path = HERE / "model",
    captions: int = 200,
    steps: int = 25,
    guidance: float = 4.0,
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
    card.write(model, facts, figures, json.loads(CARD.read_text("utf-8")))
    typer.echo(json.dumps(figures))


if __name__ == "__main__":
    app()
