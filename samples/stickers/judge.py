"""The judge: a small classifier of style and subgroup that scores generated stickers.

    python -m samples.stickers.judge train artwork   # on real pictures of all styles; writes the folder judge/
    python -m samples.stickers.judge measure         # scores the base model and writes its model card

`train` goes on from the work folder of `samples.stickers.pretrain`, with its artwork folder, in which npm has also
installed @iconify-json/fluent-emoji-flat@1.2.6, fluent-emoji-high-contrast@1.2.6, fluent-emoji@1.2.7 and
emojione@1.2.3. Drawing devices and reports use `Judge`, which needs onnxruntime and numpy only.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import numpy.typing as npt
import onnxruntime
import typer
from PIL import Image

from samples.stickers.styles import STYLES

if TYPE_CHECKING:
    from samples.stickers.pretraining.corpus import Drawn

HERE = Path(__file__).parent
FOLDER = HERE / "judge"
CARD = "judge.json"
# Between 1 and 3 the hit rates differ by a few pictures only; the sheets and the demo draw with this value, too.
GUIDANCE = 2.0
DEVICES = {style.name for style in STYLES.values() if not style.base}
# Factor by which training shows the judge a picture in a device style more often than another.
DEVICES_SHARE = 3.0

app = typer.Typer(help=__doc__.splitlines()[0], no_args_is_help=True)


@dataclass(frozen=True)
class Verdict:
    """Shares of pictures, 0 to 1: style as asked, subgroup as asked, and both in one picture."""

    style_hit: float
    subject_hit: float
    both_hit: float


@dataclass(frozen=True)
class PairVerdict:
    """Shares of pictures that were asked for in two styles, 0 to 1.

    styles_hit: the judge's first two styles are the two asked for; subject_hit: the subgroup is right; all_hit: both.
    """

    styles_hit: float
    subject_hit: float
    all_hit: float


class Judge:
    """Tells the style and the emojibase subgroup of 64 x 64 pictures.

    A deep network names the subgroup; the style comes from it and a shallow one together. Both look at the picture and
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
        """ "style" and "subgroup" -> log-probabilities, summed over networks and views."""
        parts = [self._said_of(pictures[at : at + 256]) for at in range(0, len(pictures), 256)]
        return {what: np.concatenate([part[what] for part in parts]) for what in ("style", "subgroup")}

    def _said_of(self, pictures: Sequence[Image.Image]) -> dict[str, npt.NDArray[np.float32]]:
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
        """Compare pictures with the (style, subgroup) that each was asked for."""
        named = self.name(pictures)
        hits = np.array([(n[0] == a[0], n[1] == a[1]) for n, a in zip(named, asked, strict=True)], np.float64)
        return Verdict(*(float(h) for h in (*hits.mean(axis=0), hits.prod(axis=1).mean())))

    def score_pairs(self, pictures: Sequence[Image.Image], asked: Sequence[tuple[tuple[str, str], str]]) -> PairVerdict:
        """Compare pictures with the two styles and the subgroup that each was asked for."""
        said = self._said(pictures)
        hits = []
        for styles, subgroups, (pair, subgroup) in zip(said["style"], said["subgroup"], asked, strict=True):
            first_two = {self.styles[at] for at in np.argsort(styles)[-2:]}
            hits.append((first_two == set(pair), self.subgroups[subgroups.argmax()] == subgroup))
        shares = np.array(hits, np.float64)
        return PairVerdict(*(float(h) for h in (*shares.mean(axis=0), shares.prod(axis=1).mean())))


def _log_shares(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Log-softmax, so that outputs of several networks can be added."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    shares: npt.NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shares


def held_out(name: str) -> bool:
    """True for the one picture in eight that the judge does not train on, by a hash of its name."""
    return hashlib.sha256(name.encode()).digest()[0] % 8 == 0


@app.command()
def train(
    artwork: Annotated[Path, typer.Argument(help="Folder in which npm installed the artwork packages.")],
    work: Annotated[Path, typer.Option(help="Work folder of samples.stickers.pretrain.")] = Path("out/pretrain"),
    vae: Annotated[Path, typer.Option(help="The base model's autoencoder.")] = HERE / "model" / "vae",
    out: Annotated[Path, typer.Option(help="Folder to write.")] = FOLDER,
    epochs: int = 8,
    seed: int = 0,
) -> None:
    """Train the judge on real pictures of all styles and ship it as ONNX."""
    from samples.stickers.judging import NETS, export, fit, redraw
    from samples.stickers.pretraining import corpus

    rows, pictures = corpus.make(artwork, work)
    device_rows, device_pictures = corpus.make(artwork, work, corpus.plan_devices)
    rows, pictures = rows + device_rows, np.concatenate([pictures, device_pictures])
    redrawn = redraw(vae, pictures, work)
    styles = sorted({style for row in rows for style in row.styles})
    subgroups = sorted({row.subgroup for row in rows})
    targets = {
        "style": np.array([[row.styles.count(style) / len(row.styles) for style in styles] for row in rows], "f4"),
        "subgroup": np.array([[row.subgroup == subgroup for subgroup in subgroups] for row in rows], "f4"),
    }
    test = np.array([held_out(row.name) for row in rows])
    # Device styles have about as many pictures each as drawn ones, and are harder to tell apart.
    shares = np.array([0.0 if unseen else DEVICES_SHARE if row.styles[0] in DEVICES else 1.0
                       for row, unseen in zip(rows, test, strict=True)])  # fmt: skip
    card = {"styles": styles, "subgroups": subgroups, "epochs": epochs, "seed": seed}
    # A stopped run goes on: networks that are done are kept, and the state of the one in training.
    folder = work / "judge"
    folder.mkdir(parents=True, exist_ok=True)
    said = folder / CARD
    if not said.exists() or json.loads(said.read_text("utf-8")) != card:
        for what in NETS:
            for kept in folder.glob(f"{what}.*"):
                kept.unlink()
        said.write_text(json.dumps(card), "utf-8")
    for what in NETS:
        if not (folder / f"{what}.onnx").exists():
            net = fit(what, targets, pictures, redrawn, shares, epochs, seed, folder / f"{what}.checkpoint")
            export(net, folder / f"{what}.part")
            (folder / f"{what}.part").replace(folder / f"{what}.onnx")
    card["held_out"] = {
        source: accuracy(Judge(folder), rows, pixels, test)
        for source, pixels in (("real", pictures), ("redrawn", redrawn))
    }
    out.mkdir(parents=True, exist_ok=True)
    for what in NETS:
        shutil.copy(folder / f"{what}.onnx", out)
    (out / CARD).write_text(json.dumps(card, indent=1) + "\n", "utf-8")
    typer.echo(json.dumps(card["held_out"], indent=1))


def accuracy(
    judge: Judge, rows: Sequence[Drawn], pixels: npt.NDArray[np.uint8], test: npt.NDArray[np.bool_]
) -> dict[str, dict[str, float]]:
    """The judge's hit rates on the test pictures: of base styles, of device styles, and of pairs."""
    kinds: dict[str, list[int]] = {"base": [], "devices": [], "pairs": []}
    for at in np.flatnonzero(test):
        styles = rows[at].styles
        kinds["pairs" if len(styles) == 2 else "devices" if styles[0] in DEVICES else "base"].append(at)
    shown = {kind: [Image.fromarray(pixels[at]) for at in chosen] for kind, chosen in kinds.items()}
    figures: dict[str, dict[str, float]] = {
        kind: asdict(judge.score(shown[kind], [(rows[at].styles[0], rows[at].subgroup) for at in kinds[kind]]))
        for kind in ("base", "devices")
    }
    pairs = [((rows[at].styles[0], rows[at].styles[1]), rows[at].subgroup) for at in kinds["pairs"]]
    figures["pairs"] = asdict(judge.score_pairs(shown["pairs"], pairs))
    return {kind: {name: round(value, 4) for name, value in found.items()} for kind, found in figures.items()}


@app.command()
def measure(
    model: Path = HERE / "model",
    judge: Path = FOLDER,
    captions: int = 200,
    steps: int = 25,
    guidance: float = GUIDANCE,
    sheets: Annotated[Path, typer.Option(help="Folder for the sheets of what was drawn.")] = Path("out/pretrain"),
) -> None:
    """Score the base model on captions of the base styles with seeds that nothing else uses."""
    from samples.stickers import card as model_card
    from samples.stickers.measuring import measure_model

    figures = measure_model(model, Judge(judge), captions, steps, guidance, sheets)
    facts = json.loads((model / "trained.json").read_text("utf-8"))
    model_card.write(model, facts, figures, json.loads((judge / CARD).read_text("utf-8")))
    typer.echo(json.dumps(figures, indent=1))


if __name__ == "__main__":
    app()
