"""The judge: a small classifier of style and subgroup that scores generated stickers.

    python -m samples.stickers.judge train       # on real pictures of all styles; writes the folder judge/
    python -m samples.stickers.judge measure     # scores the base model and writes its model card

Drawing devices and reports use `Judge`, which needs onnxruntime and numpy only.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import typer
from PIL import Image

from samples.stickers import card as model_card
from samples.stickers.data import Sticker
from samples.stickers.styles import STYLES

HERE = Path(__file__).parent
FOLDER = HERE / "judge"
CARD = "judge.json"
# Between 1 and 3 the hit rates differ by a few pictures only; this is also what the sheets and the demo draw with.
GUIDANCE = 2.0

app = typer.Typer(help=__doc__.splitlines()[0], no_args_is_help=True)


@dataclass(frozen=True)
class Verdict:
    """Shares of pictures, 0 to 1, whose style and whose subgroup the judge names as asked."""

    style_hit: float
    subject_hit: float


class Judge:
    """Tells the style and the emojibase subgroup of 64 x 64 pictures.

    A deep network names the subgroup; the style is what it and a shallow one say together. Both look at the picture and
    at its mirror image.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        labels = json.loads((folder / CARD).read_text("utf-8"))
        self.styles: list[str] = labels["styles"]
        self.subgroups: list[str] = labels["subgroups"]
        self._nets = [
            onnxruntime.InferenceSession(folder / f"{net}.onnx", providers=["CPUExecutionProvider"])
            for net in ("deep", "shallow")
        ]

    def name(self, pictures: Sequence[Image.Image]) -> list[tuple[str, str]]:
        """The most likely (style, subgroup) of each picture."""
        said = self._said(pictures)
        best = zip(said["style"].argmax(1), said["subgroup"].argmax(1), strict=True)
        return [(self.styles[style], self.subgroups[subgroup]) for style, subgroup in best]

    def style_shares(self, pictures: Sequence[Image.Image]) -> npt.NDArray[np.float64]:
        """The probability of each of `styles`, (n, styles): the geometric mean of both networks and both views."""
        mean = self._said(pictures)["style"].astype(np.float64) / (2 * len(self._nets))
        shares: npt.NDArray[np.float64] = np.exp(mean - mean.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)

    def _said(self, pictures: Sequence[Image.Image]) -> dict[str, npt.NDArray[np.float32]]:
        """ "style" and "subgroup" -> log-shares, added up over networks and views."""
        pixels = np.stack([np.asarray(p.convert("RGB").resize((64, 64)), np.float32) for p in pictures])
        upright = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)) / 255
        said: dict[str, npt.NDArray[np.float32]] = {}
        for net in self._nets:
            for view in (upright, np.ascontiguousarray(upright[..., ::-1])):
                names = [output.name for output in net.get_outputs()]
                for name, logits in zip(names, net.run(names, {"picture": view}), strict=True):
                    said[name] = said.get(name, 0) + _log_shares(logits)
        return said

    def score(self, pictures: Sequence[Image.Image], asked: Sequence[tuple[str, str]]) -> Verdict:
        """Compare what the pictures show with what was asked for: one (style, subgroup) each."""
        named = self.name(pictures)
        hits = np.array([(n[0] == a[0], n[1] == a[1]) for n, a in zip(named, asked, strict=True)], np.float64)
        return Verdict(style_hit=float(hits[:, 0].mean()), subject_hit=float(hits[:, 1].mean()))


def _log_shares(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Log-softmax, so that what networks say can be added."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    shares: npt.NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shares


def held_out(file_name: str) -> bool:
    """One picture in eight is kept from the judge's training, by a hash of its name."""
    return hashlib.sha256(file_name.encode()).digest()[0] % 8 == 0


def redraw(vae_folder: Path, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The pictures as the base model's autoencoder redraws them, so that its blur is no news to the judge."""
    import torch
    from diffusers import AutoencoderKL

    from samples.stickers.pretraining.autoencoder import to_unit

    vae = AutoencoderKL.from_pretrained(vae_folder, torch_dtype=torch.float32).to(memory_format=torch.channels_last)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        parts = [vae.decode(vae.encode(x).latent_dist.mean).sample.float() for x in to_unit(pictures).split(64)]
    pixels = torch.cat(parts).clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous().numpy()


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
    from samples.stickers.judging import NETS, export, fit

    stickers = data.read()
    pictures = data.pictures(stickers)
    redrawn = redraw(vae, pictures)
    test = np.array([s.split == "held-out" if by_subject else held_out(s.file_name) for s in stickers])
    names = {"style": list(STYLES), "subgroup": sorted({s.subgroup for s in stickers})}
    labels = {what: np.array([known.index(getattr(s, what)) for s in stickers]) for what, known in names.items()}
    card = {"styles": names["style"], "subgroups": names["subgroup"], "epochs": epochs, "seed": seed}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for what in NETS:
            export(fit(what, labels, pictures, redrawn, np.flatnonzero(~test), epochs, seed), folder / f"{what}.onnx")
        (folder / CARD).write_text(json.dumps(card), "utf-8")
        figures = accuracy(Judge(folder), stickers, {"real": pictures, "redrawn": redrawn}, test)
        typer.echo(f"{json.dumps(figures)} on {test.sum()} pictures not seen")
        if by_subject:
            card = json.loads((FOLDER / CARD).read_text("utf-8")) | {"held_out_subjects": figures}
        else:
            card["held_out"] = figures
            for what in NETS:
                shutil.copy(folder / f"{what}.onnx", FOLDER)
    (FOLDER / CARD).write_text(json.dumps(card, indent=1) + "\n", "utf-8")


def accuracy(
    judge: Judge,
    stickers: Sequence[Sticker],
    sources: Mapping[str, npt.NDArray[np.uint8]],
    test: npt.NDArray[np.bool_],
) -> dict[str, dict[str, float]]:
    """Source -> "style" and "subgroup" -> the share of the test pictures that the judge names rightly."""
    rows = np.flatnonzero(test)
    asked = [(stickers[row].style, stickers[row].subgroup) for row in rows]
    found = {}
    for source, pixels in sources.items():
        verdict = judge.score([Image.fromarray(pixels[row]) for row in rows], asked)
        found[source] = {"style": round(verdict.style_hit, 4), "subgroup": round(verdict.subject_hit, 4)}
    return found


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
