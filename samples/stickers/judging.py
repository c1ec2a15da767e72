"""Training of the judge, and drawing of what it measures: the half that needs torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionPipeline
from PIL import Image
from rich.progress import track
from torch import nn

from samples.stickers import data
from samples.stickers.pretraining.loop import warmup_cosine
from samples.stickers.styles import STYLES

PEAK = 4e-3


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


class StyleNet(nn.Module):
    """Style logits from colours and strokes alone.

    It sees single pixels and patches of 17 x 17, and pools them over the picture: a deeper network learns which artist
    drew which subject how, and is lost on pictures that it has not seen (95 % on its own pictures, 77 % on others).
    """

    def __init__(self, styles: int) -> None:
        super().__init__()
        self.palette = nn.Sequential(
            *(nn.Conv2d(27, 64, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()),
            *(nn.Conv2d(64, 96, 1, bias=False), nn.BatchNorm2d(96), nn.ReLU()),
        )
        self.strokes = nn.Sequential(
            *(nn.Conv2d(3, 20, 3, 1, 1, bias=False), nn.BatchNorm2d(20), nn.ReLU()),
            *(nn.Conv2d(20, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()),
            *(nn.Conv2d(64, 128, 3, 2, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU()),
            *(nn.Conv2d(128, 128, 3, 1, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU()),
        )
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(2 * 96 + 2 * 128, 96), nn.ReLU(), nn.Linear(96, styles))

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        centred = picture * 2 - 1
        pixels = centred[:, :, ::2, ::2]
        # Artists paint with a fixed set of colours; waves over a channel's range let a 1x1 layer single them out.
        waves = [wave(pixels * (torch.pi * k)) for k in (1, 2, 4, 8) for wave in (torch.sin, torch.cos)]
        seen = (self.palette(torch.cat([pixels, *waves], dim=1)), self.strokes(centred))
        return self.head(torch.cat([pool for x in seen for pool in (x.mean(dim=(2, 3)), x.amax(dim=(2, 3)))], dim=1))


class SubgroupNet(nn.Module):
    """Picture in 0..1, (n, 3, 64, 64) -> subgroup logits."""

    def __init__(self, subgroups: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU()),
            *(Block(32, 32, 1), Block(32, 64, 2), Block(64, 128, 2), Block(128, 192, 2)),
        )
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(2 * 192, subgroups))

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        x = self.body(picture * 2 - 1)
        return self.head(torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1))


def augment(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Shift by up to three pixels, white outside; half are mirrored, a fifth scaled, a fifth get a little noise.

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


NETS: dict[str, Callable[[int], nn.Module]] = {"style": StyleNet, "subgroup": SubgroupNet}


def fit(
    what: str,
    labels: npt.NDArray[np.int64],
    sources: dict[str, npt.NDArray[np.uint8]],
    test: npt.NDArray[np.bool_],
    epochs: int,
    seed: int,
) -> tuple[nn.Module, dict[str, float]]:
    """Train a network on the pictures that are not for testing; returns it, and its accuracy on those that are.

    Args:
        what: "style" or "subgroup".
        labels: one a picture.
        sources: "real" -> the pictures, "redrawn" -> the same as the base model's autoencoder draws them; four in
            ten are trained on as they are.
    """
    torch.manual_seed(seed)
    net = NETS[what](int(labels.max()) + 1).to(memory_format=torch.channels_last)
    target = torch.from_numpy(labels)
    real, redrawn = (torch.from_numpy(sources[name]).permute(0, 3, 1, 2) for name in ("real", "redrawn"))
    train_rows = torch.from_numpy(np.flatnonzero(~test))
    batch, steps = 64, epochs * (len(train_rows) // 64)
    optimizer = torch.optim.AdamW(net.parameters(), lr=PEAK, weight_decay=0.02)
    rng = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(train_rows), generator=rng)
    for step in track(range(steps), description=what):
        for group in optimizer.param_groups:
            group["lr"] = PEAK * warmup_cosine(step, steps, 100)
        at = step * batch % (len(order) - batch)
        if at < batch:
            order = torch.randperm(len(train_rows), generator=rng)
        rows = train_rows[order[at : at + batch]]
        half = torch.rand(batch, 1, 1, 1, generator=rng) < 0.4
        x = torch.where(half, real[rows], redrawn[rows]).float() / 255
        x = augment(x, rng).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(x)
        loss = F.cross_entropy(logits.float(), target[rows], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval()
    test_rows = torch.from_numpy(np.flatnonzero(test))
    return net, {
        name: round(_accuracy(net, pictures, target, test_rows), 4)
        for name, pictures in (("real", real), ("redrawn", redrawn))
    }


def _accuracy(net: nn.Module, pictures: torch.Tensor, target: torch.Tensor, rows: torch.Tensor) -> float:
    with torch.no_grad():
        right = [net(pictures[part].float() / 255).argmax(1) == target[part] for part in rows.split(128)]
    return float(torch.cat(right).float().mean())


def export(net: nn.Module, path: Path) -> None:
    """Write a network as ONNX: "picture" (n, 3, 64, 64) in 0..1 -> "logits"."""
    path.parent.mkdir(parents=True, exist_ok=True)
    program = torch.onnx.export(
        net.to(memory_format=torch.contiguous_format),
        (torch.rand(2, 3, 64, 64),),
        input_names=["picture"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("n")},),
        dynamo=True,
        opset_version=20,
    )
    store_in_half(program.model)
    program.save(path)


def store_in_half(model: ir.Model) -> None:
    """Keep the weights as float16 and cast them when the model is loaded, in place: half the file, equal verdicts."""
    graph = model.graph
    for name, weight in list(graph.initializers.items()):
        if weight.const_value is None or weight.dtype != ir.DataType.FLOAT or weight.const_value.size < 1024:
            continue
        half = ir.Value(name=f"{name}_half", shape=weight.shape, type=ir.TensorType(ir.DataType.FLOAT16))
        half.const_value = ir.tensor(weight.const_value.numpy().astype(np.float16), name=half.name)
        graph.initializers[half.name] = half
        del graph.initializers[name]
        cast = ir.Node("", "Cast", [half], [ir.AttrInt64("to", ir.DataType.FLOAT)], name=f"{name}_cast")
        cast.outputs[0].name, cast.outputs[0].shape, cast.outputs[0].type = f"{name}_single", weight.shape, weight.type
        weight.replace_all_uses_with(cast.outputs[0])
        graph.insert_before(graph[0], cast)


def draw_captions(
    model: Path, count: int, steps: int, guidance: float, first_seed: int = 10_000
) -> tuple[list[tuple[str, str]], list[Image.Image]]:
    """Draw `count` captions of the base styles, spread evenly over the data: what was asked for, and the pictures."""
    stickers = data.read(keep=lambda s: STYLES[s.style].base)
    chosen = [stickers[i] for i in np.linspace(0, len(stickers) - 1, count).round().astype(int)]
    pipe = StableDiffusionPipeline.from_pretrained(model, torch_dtype=torch.float32, safety_checker=None)
    pipe.unet.to(memory_format=torch.channels_last)
    pipe.set_progress_bar_config(disable=True)
    images: list[Image.Image] = []
    for at in track(range(0, count, 20), description="drawing"):
        part = chosen[at : at + 20]
        generators = [torch.Generator().manual_seed(first_seed + at + i) for i in range(len(part))]
        images += pipe(
            [s.text for s in part], num_inference_steps=steps, guidance_scale=guidance, generator=generators
        ).images
    return [(s.style, s.subgroup) for s in chosen], images
