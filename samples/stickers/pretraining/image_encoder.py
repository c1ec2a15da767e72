"""Stage 4: a small CLIPVisionModelWithProjection that tells styles apart, for picture codes.

It learns the base styles and their pairs only. Each has a centre, and a picture's embedding is to lie around that of
its style as a Gaussian of variance 1 (Wan et al., large-margin Gaussian mixture loss, CVPR 2018), so that unknown
styles too lie apart by multiples of the scatter inside one style. At the end the embedding is turned and scaled by
linear discriminant analysis: pictures of one style scatter by variance 1 in every dimension, and the first dimensions
tell the most styles apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from samples.stickers.pretraining.autoencoder import to_unit
from samples.stickers.pretraining.corpus import Drawn
from samples.stickers.pretraining.loop import Ema, Log, load_checkpoint, run, save_checkpoint, warmup_cosine

SIDE, PATCH, WIDTH, LAYERS, CODE = 64, 8, 96, 3, 32
_LIKELIHOOD = 0.05  # weight of the squared distance from the own centre
_MEASURED = 12_000  # pictures of single styles by which the embedding is scaled


def new_image_encoder() -> CLIPVisionModelWithProjection:
    torch.manual_seed(3)
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=4,
            image_size=SIDE,
            patch_size=PATCH,
            projection_dim=CODE,
            # The default of 0.02 is made for widths of 512 and more.
            initializer_factor=2.0,
        )
    )


def new_image_processor() -> CLIPImageProcessor:
    """The preprocessing: pixels from -1 to 1."""
    half = [0.5, 0.5, 0.5]
    return CLIPImageProcessor(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, image_mean=half, image_std=half
    )


def train(
    corpus: list[Drawn], pictures: npt.NDArray[np.uint8], work: Path, steps: int, batch: int = 96, lr: float = 1e-3
) -> CLIPVisionModelWithProjection:
    """Train or resume; return the averaged encoder, its embedding scaled by the scatter inside a style."""
    styles = sorted({row.styles for row in corpus})
    label = {style: at for at, style in enumerate(styles)}
    of_style: list[list[int]] = [[] for _ in styles]
    for at, row in enumerate(corpus):
        of_style[label[row.styles]].append(at)
    encoder = new_image_encoder()
    centres = torch.nn.Parameter(torch.randn(len(styles), CODE, generator=torch.Generator().manual_seed(4)))
    parameters = [*encoder.parameters(), centres]
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.99), weight_decay=0.02)
    ema, log, start, path = Ema(0.998), Log(work / "image_encoder.jsonl"), 0, work / "image_encoder.pt"
    if state := load_checkpoint(path):
        encoder.load_state_dict(state["model"])
        centres.data.copy_(state["centres"])
        optimizer.load_state_dict(state["optimizer"])
        ema.shadow, start, log.seconds = state["ema"], state["step"], state["seconds"]

    def one_step(step: int) -> dict[str, float]:
        for group in optimizer.param_groups:
            group["lr"] = lr * warmup_cosine(step, steps, 200)
        rng = np.random.default_rng(step)
        # Every style and every pair equally often.
        target = rng.integers(len(styles), size=batch)
        rows = np.sort([of_style[at][rng.integers(len(of_style[at]))] for at in target])
        target = torch.tensor([label[corpus[row].styles] for row in rows])
        with torch.autocast("cpu", torch.bfloat16):
            code = encoder(_varied(to_unit(pictures[rows]), rng)).image_embeds
        distance = torch.cdist(code.float(), centres).square() / 2
        own = distance.gather(1, target[:, None])
        loss = F.cross_entropy(-distance, target) + _LIKELIHOOD * own.mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        ema.update(parameters, step)
        right = (distance.argmin(1) == target).float().mean()
        return {"loss": loss.item(), "right": right.item(), "scatter": own.mean().item()}

    def save(step: int) -> None:
        state = {"model": encoder.state_dict(), "centres": centres.data, "optimizer": optimizer.state_dict()}
        save_checkpoint(path, state | {"ema": ema.shadow, "step": step, "seconds": log.seconds})

    run(steps, start, one_step, save, log)
    ema.copy_to(parameters)
    _scale(encoder.eval().requires_grad_(False), corpus, pictures)
    return encoder


def embed(encoder: CLIPVisionModelWithProjection, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Embeddings (n, dimensions) of pictures (n, h, w, 3)."""
    with torch.no_grad():
        parts = [encoder(to_unit(part)).image_embeds for part in _batches(pictures)]
    return torch.cat(parts).numpy().astype(np.float64)


def _batches(pictures: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint8]]:
    for at in range(0, len(pictures), 256):
        yield pictures[at : at + 256]


def _varied(x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """The pictures, half the time mirrored, and moved by some pixels."""
    if rng.random() < 0.5:
        x = x.flip(3)
    down, right = rng.integers(-4, 5, 2).tolist()
    return torch.roll(x, (down, right), (2, 3))


def _scale(encoder: CLIPVisionModelWithProjection, corpus: list[Drawn], pictures: npt.NDArray[np.uint8]) -> None:
    """Turn and scale the projection by linear discriminant analysis over the single styles."""
    single = [at for at, row in enumerate(corpus) if len(row.styles) == 1]
    chosen = sorted(np.random.default_rng(5).permutation(single)[:_MEASURED].tolist())
    codes = embed(encoder, pictures[chosen])
    names = np.unique([corpus[at].styles[0] for at in chosen], return_inverse=True)[1]
    means = np.stack([codes[names == name].mean(axis=0) for name in range(names.max() + 1)])
    values, vectors = np.linalg.eigh(np.cov(codes - means[names], rowvar=False))
    whiten = vectors / np.sqrt(values)
    _, directions = np.linalg.eigh(np.cov(means @ whiten, rowvar=False))
    turn = torch.from_numpy((whiten @ directions[:, ::-1]).T.copy()).float()
    encoder.visual_projection.weight.data = turn @ encoder.visual_projection.weight.data
