"""Training of the judge, on real pictures of all styles.

    python -m samples.stickers.judging artwork   # writes the folder judge/

It goes on from the work folder of `samples.stickers.pretrain`, with its artwork folder, in which npm has also installed
@iconify-json/fluent-emoji-flat@1.2.6, fluent-emoji-high-contrast@1.2.6, fluent-emoji@1.2.7 and emojione@1.2.3.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import typer
from diffusers import AutoencoderKL
from PIL import Image
from rich.progress import track
from torch import nn

from export.graphs import clean
from export.precision import store_in_half
from samples.stickers.judge import CARD, FOLDER, NETWORKS, Judge, held_out
from samples.stickers.pretraining import corpus
from samples.stickers.pretraining.autoencoder import to_unit
from samples.stickers.pretraining.corpus import Drawn
from samples.stickers.pretraining.loop import load_checkpoint, save_checkpoint, warmup_cosine
from samples.stickers.styles import STYLES

DEVICES = {style.name for style in STYLES.values() if not style.base}
PEAK = 4e-3
SAVED_EVERY = 500  # steps


class Block(nn.Module):
    """Residual block of two 3x3 convolutions; the first may halve the size."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False), nn.BatchNorm2d(outer)
        self.second, self.norm2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False), nn.BatchNorm2d(outer)
        self.skip = nn.Conv2d(inner, outer, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norm1(self.first(x)))
        return F.relu(self.norm2(self.second(y)) + self.skip(x))


class ShallowNet(nn.Module):
    """Picture in 0..1, (n, 3, 64, 64) -> style logits, from colours and strokes alone.

    It sees single pixels and patches of 17 x 17, and pools them over the picture, so it can hardly remember single
    pictures: 93 % right on its training pictures and on unseen ones alike.
    """

    outputs = ("style",)

    def __init__(self, styles: int, subgroups: int) -> None:
        super().__init__()
        self.palette = nn.Sequential(
            *(nn.Conv2d(27, 64, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()),
            *(nn.Conv2d(64, 96, 1, bias=False), nn.BatchNorm2d(96), nn.ReLU()),
        )
        self.strokes = nn.Sequential(
            *(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
            *(nn.Conv2d(16, 48, 3, 2, 1, bias=False), nn.BatchNorm2d(48), nn.ReLU()),
            *(nn.Conv2d(48, 96, 3, 2, 1, bias=False), nn.BatchNorm2d(96), nn.ReLU()),
            *(nn.Conv2d(96, 96, 3, 1, 1, bias=False), nn.BatchNorm2d(96), nn.ReLU()),
        )
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(4 * 96, 96), nn.ReLU(), nn.Linear(96, styles))

    def forward(self, picture: torch.Tensor) -> tuple[torch.Tensor, ...]:
        centred = picture * 2 - 1
        pixels = centred[:, :, ::2, ::2]
        # Artists paint with a fixed set of colours; waves over a channel's range let a 1x1 layer single them out.
        waves = [wave(pixels * (torch.pi * k)) for k in (1, 2, 4, 8) for wave in (torch.sin, torch.cos)]
        seen = (self.palette(torch.cat([pixels, *waves], dim=1)), self.strokes(centred))
        pooled = torch.cat([pool for x in seen for pool in (x.mean(dim=(2, 3)), x.amax(dim=(2, 3)))], dim=1)
        return (self.head(pooled),)


class DeepNet(nn.Module):
    """Picture in 0..1, (n, 3, 64, 64) -> style logits, subgroup logits.

    Its style head remembers each artist's drawings of each subject: 95 % right on its training pictures, 77 % on unseen
    ones. Generated pictures show subjects that it knows, and are seldom as crisp as the shallow network needs them.
    """

    outputs = ("style", "subgroup")

    def __init__(self, styles: int, subgroups: int) -> None:
        super().__init__()
        self.palette = nn.Sequential(nn.Conv2d(3, 48, 1), nn.ReLU(), nn.Conv2d(48, 64, 1), nn.ReLU())
        self.body = nn.Sequential(
            *(nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU()),
            *(Block(32, 32, 1), Block(32, 64, 2), Block(64, 128, 2), Block(128, 192, 2)),
        )
        self.style = nn.Sequential(nn.Linear(192 + 64, 96), nn.ReLU(), nn.Linear(96, styles))
        self.subgroup = nn.Sequential(nn.Dropout(0.2), nn.Linear(2 * 192, subgroups))

    def forward(self, picture: torch.Tensor) -> tuple[torch.Tensor, ...]:
        centred = picture * 2 - 1
        x = self.body(centred)
        # Colours are counted on every fourth pixel: at full size this layer alone took most of the time.
        mean, colours = x.mean(dim=(2, 3)), self.palette(centred[:, :, ::2, ::2]).mean(dim=(2, 3))
        both = torch.cat([mean, x.amax(dim=(2, 3))], dim=1)
        return self.style(torch.cat([mean, colours], dim=1)), self.subgroup(both)


NETS: dict[str, Callable[[int, int], nn.Module]] = {"deep": DeepNet, "shallow": ShallowNet}


def augment(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Shift by up to three pixels, white outside; mirror half, scale a fifth, and add a little noise to a fifth.

    Most pictures are moved by whole pixels only: resampling blurs, and sharpness tells styles apart.
    """
    n, _, height, width = x.shape
    scaled = torch.rand(n, generator=rng) < 0.2
    scale = torch.where(scaled, 1 + 0.2 * (torch.rand(n, generator=rng) - 0.5), torch.ones(n))
    mirror = torch.where(torch.rand(n, generator=rng) < 0.5, -1.0, 1.0)
    shift = torch.randint(-3, 4, (n, 2), generator=rng) * 2 / torch.tensor([width, height])
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = scale * mirror, scale
    theta[:, :, 2] = shift
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    moved = 1 - F.grid_sample(1 - x, grid, align_corners=False)
    noisy = torch.rand(n, 1, 1, 1, generator=rng) < 0.2
    level = 0.05 * torch.rand(n, 1, 1, 1, generator=rng) * noisy
    return (moved + level * torch.randn(x.shape, generator=rng)).clamp(0, 1)


def fit(
    what: str,
    targets: Mapping[str, npt.NDArray[np.float32]],
    pictures: npt.NDArray[np.uint8],
    redrawn: npt.NDArray[np.uint8],
    shares: npt.NDArray[np.float64],
    epochs: int,
    seed: int,
    checkpoint: Path,
) -> nn.Module:
    """Train a network, or go on training it.

    Args:
        what: a key of `NETS`.
        targets: "style" and "subgroup" -> shares, (n, names): a picture in two styles is half in each.
        redrawn: the same pictures through the base model's autoencoder; each step takes half of its pictures from here.
        shares: relative frequency of each picture, (n,), 0 for those that are not trained on.
        epochs: number of passes; each draws as many pictures as there are with a share above 0.
        checkpoint: file that keeps the state every few hundred steps; deleted at the end.
    """
    torch.manual_seed(seed)
    target = {name: torch.from_numpy(shares) for name, shares in targets.items()}
    net = NETS[what](*(target[name].shape[1] for name in ("style", "subgroup")))
    net.to(memory_format=torch.channels_last)
    batch = 64
    steps = epochs * (int((shares > 0).sum()) // batch)
    optimizer = torch.optim.AdamW(net.parameters(), lr=PEAK, weight_decay=0.02)
    rng, often, start = torch.Generator().manual_seed(seed), torch.from_numpy(shares), 0
    if state := load_checkpoint(checkpoint):
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        rng.set_state(state["rng"])
        torch.set_rng_state(state["dropout"])
        start = state["step"]
    for step in track(range(start, steps), description=what, total=steps, completed=start):
        if step > start and step % SAVED_EVERY == 0:
            kept = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
            save_checkpoint(checkpoint, kept | {"rng": rng.get_state(), "dropout": torch.get_rng_state()})
        for group in optimizer.param_groups:
            group["lr"] = PEAK * warmup_cosine(step, steps, 100)
        chosen = torch.multinomial(often, batch, generator=rng)
        half = torch.rand(batch, 1, 1, 1, generator=rng).numpy() < 0.5
        seen = np.where(half, pictures[chosen.numpy()], redrawn[chosen.numpy()])
        x = torch.from_numpy(seen).permute(0, 3, 1, 2).float() / 255
        x = augment(x, rng).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(x)
        loss = torch.stack(
            [
                F.cross_entropy(found.float(), target[name][chosen], label_smoothing=0.05)
                for name, found in zip(net.outputs, logits, strict=True)
            ]
        ).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    checkpoint.unlink(missing_ok=True)
    return net.eval()


def export(net: nn.Module, path: Path) -> None:
    """Write a network as ONNX: "picture" (n, 3, 64, 64) in 0..1 -> its `outputs`, as logits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    program = torch.onnx.export(
        net.to(memory_format=torch.contiguous_format),
        (torch.rand(2, 3, 64, 64),),
        input_names=["picture"],
        output_names=list(net.outputs),
        dynamic_shapes=({0: torch.export.Dim("n")},),
        dynamo=True,
        opset_version=20,
    )
    store_in_half(program.model)
    clean(program.model, "The stickers' judge")
    program.save(path)


def redraw(vae_folder: Path, pictures: npt.NDArray[np.uint8], work: Path) -> npt.NDArray[np.uint8]:
    """The pictures through the base model's autoencoder, so that the judge learns its blur, too.

    They are drawn once, then read from the work folder.
    """
    path = work / "redrawn.npy"
    if not path.exists():
        vae = AutoencoderKL.from_pretrained(vae_folder, torch_dtype=torch.float32).to(memory_format=torch.channels_last)
        redrawn = np.empty_like(pictures)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            for at in track(range(0, len(pictures), 64), description="redrawn"):
                latents = vae.encode(to_unit(pictures[at : at + 64])).latent_dist.mean
                pixels = vae.decode(latents).sample.float().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
                redrawn[at : at + 64] = pixels.permute(0, 2, 3, 1).numpy()
        np.save(path.with_suffix(".part.npy"), redrawn)
        path.with_suffix(".part.npy").replace(path)
    found: npt.NDArray[np.uint8] = np.load(path)
    return found


def main(
    artwork: Annotated[Path, typer.Argument(help="Folder in which npm installed the artwork packages.")],
    work: Annotated[Path, typer.Option(help="Work folder of samples.stickers.pretrain.")] = Path("out/pretrain"),
    vae: Annotated[Path, typer.Option(help="The base model's autoencoder.")] = FOLDER.parent / "model" / "vae",
    out: Annotated[Path, typer.Option(help="Folder to write.")] = FOLDER,
    epochs: int = 8,
    seed: int = 0,
) -> None:
    """Train the judge on real pictures of all styles and ship it as ONNX."""
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
    card = {"styles": styles, "subgroups": subgroups, "epochs": epochs, "seed": seed}
    # A stopped run goes on: networks that are done are kept, and the state of the one in training.
    folder = work / "judge"
    folder.mkdir(parents=True, exist_ok=True)
    said = folder / CARD
    if not said.exists() or json.loads(said.read_text("utf-8")) != card:
        for name in NETWORKS:
            for kept in folder.glob(f"{name}.*"):
                kept.unlink()
        said.write_text(json.dumps(card), "utf-8")
    for name, (kind, devices_share) in NETWORKS.items():
        if not (folder / f"{name}.onnx").exists():
            shares = np.array([0.0 if unseen else devices_share if row.styles[0] in DEVICES else 1.0
                               for row, unseen in zip(rows, test, strict=True)])  # fmt: skip
            net = fit(kind, targets, pictures, redrawn, shares, epochs, seed, folder / f"{name}.checkpoint")
            export(net, folder / f"{name}.part")
            (folder / f"{name}.part").replace(folder / f"{name}.onnx")
    card["held_out"] = {
        source: accuracy(Judge(folder), rows, pixels, test)
        for source, pixels in (("real", pictures), ("redrawn", redrawn))
    }
    out.mkdir(parents=True, exist_ok=True)
    for name in NETWORKS:
        shutil.copy(folder / f"{name}.onnx", out)
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


if __name__ == "__main__":
    typer.run(main)
