"""Stage 1: an AutoencoderKL of factor 4, trained on all base styles with colour augmentation.

The augmentation (random colour matrices, grey, contrast) lets it draw colours and inks that the base styles
do not have, so that a device can later teach a style that the autoencoder has never seen.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from rich.progress import track

from samples.stickers.pretraining.loop import Ema, Log, load_checkpoint, run, save_checkpoint, warmup_cosine

WIDTHS = (32, 64, 96)
# Four channels lose textures: halftone dots come back at 14.5 dB, with eight at 25.3; devices' styles at 26 and 29.5.
LATENT_CHANNELS = 8


def new_autoencoder(channels: int = LATENT_CHANNELS) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=WIDTHS,
        down_block_types=["DownEncoderBlock2D"] * len(WIDTHS),
        up_block_types=["UpDecoderBlock2D"] * len(WIDTHS),
        latent_channels=channels,
        layers_per_block=1,
        norm_num_groups=16,
        sample_size=64,
        mid_block_add_attention=False,
    )


def to_unit(pictures: npt.NDArray[np.uint8]) -> torch.Tensor:
    """(n, h, w, 3) uint8 -> (n, 3, h, w) in -1..1, channels last."""
    tensor = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    return tensor.contiguous(memory_format=torch.channels_last)


def recolour(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Leave seven in ten as they are, mix the others' channels, make some grey or of high contrast. White stays."""
    n = x.shape[0]
    mix = torch.softmax(torch.randn(n, 3, 3, generator=rng) * 2, dim=2)
    grey = torch.rand(n, 1, 1, generator=rng) < 0.25
    mix = torch.where(grey, torch.tensor([0.3, 0.59, 0.11]).expand(n, 3, 3), mix)
    keep = torch.rand(n, 1, 1, generator=rng) < 0.7
    mix = torch.where(keep, torch.eye(3).expand(n, 3, 3), mix)
    y = torch.einsum("nij,njhw->nihw", mix, x)
    gain = torch.where(
        torch.rand(n, 1, 1, 1, generator=rng) < 0.15,
        1 + 3 * torch.rand(n, 1, 1, 1, generator=rng),
        torch.ones(n, 1, 1, 1),
    )
    y = (1 + (y - 1) * gain).clamp(-1, 1)
    return y.contiguous(memory_format=torch.channels_last)


def reconstruction_loss(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """L1 at three scales, L1 of the differences between neighbours, which keeps outlines sharp, and L1 of hues.

    Without the last term an autoencoder of four channels spends none on the axis from green to purple: outlines reduce
    the loss more.
    """
    loss = (y - x).abs().mean()
    for scale in (2, 4):
        loss = loss + 0.5 * (F.avg_pool2d(y, scale) - F.avg_pool2d(x, scale)).abs().mean()
    opponent = torch.tensor([[1.0, -1.0, 0.0], [-0.5, 1.0, -0.5], [-0.5, -0.5, 1.0]])
    hues = torch.einsum("ij,njhw->nihw", opponent, F.avg_pool2d(y - x, 4))
    loss = loss + 2.0 * hues.abs().mean()
    edges = (y.diff(dim=2) - x.diff(dim=2)).abs().mean() + (y.diff(dim=3) - x.diff(dim=3)).abs().mean()
    return loss + 0.5 * edges


def train(
    pictures: npt.NDArray[np.uint8], work: Path, steps: int, batch: int = 16, lr: float = 1.5e-3
) -> AutoencoderKL:
    """Train or resume; return the averaged autoencoder, its latents scaled to unit variance."""
    torch.manual_seed(0)
    vae = new_autoencoder().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=1e-4)
    ema, log, start = Ema(0.998), Log(work / "autoencoder.jsonl"), 0
    path = work / "autoencoder.pt"
    if state := load_checkpoint(path):
        vae.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        ema.shadow, start, log.seconds = state["ema"], state["step"], state["seconds"]

    def one_step(step: int) -> dict[str, float]:
        rng = torch.Generator().manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"] = lr * warmup_cosine(step, steps, 100)
        rows = torch.randint(len(pictures), (batch,), generator=rng)
        x = recolour(to_unit(pictures[rows.numpy()]), rng)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(x).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=rng)
            y = vae.decode(posterior.mean + posterior.std * noise).sample
        y = y.float()
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        loss = reconstruction_loss(y, x) + 1e-4 * kl
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        ema.update(vae.parameters(), step)
        mse = F.mse_loss(y, x).item() / 4
        return {"loss": loss.item(), "kl": kl.item(), "psnr": -10 * float(np.log10(mse))}

    def save(step: int) -> None:
        state = {"model": vae.state_dict(), "optimizer": optimizer.state_dict(), "ema": ema.shadow}
        save_checkpoint(path, state | {"step": step, "seconds": log.seconds})

    run(steps, start, one_step, save, log)
    ema.copy_to(vae.parameters())
    vae.eval().requires_grad_(False)
    some = to_unit(pictures[:: len(pictures) // 512])
    vae.register_to_config(scaling_factor=float(1 / encode(vae, some, scale=1.0).std()))
    return vae


@torch.no_grad()
def encode(vae: AutoencoderKL, x: torch.Tensor, scale: float | None = None) -> torch.Tensor:
    """Scaled means of the latents of pictures in -1..1."""
    scale = vae.config.scaling_factor if scale is None else scale
    with torch.autocast("cpu", torch.bfloat16):
        means = [
            vae.encode(part.contiguous(memory_format=torch.channels_last)).latent_dist.mean for part in x.split(64)
        ]
    return torch.cat(means).float() * scale


def encode_all(vae: AutoencoderKL, pictures: npt.NDArray[np.uint8], work: Path) -> torch.Tensor:
    """The latents of the whole corpus as float16, (n, channels, 16, 16), kept in the work folder."""
    path = work / "latents.pt"
    if not path.exists():
        parts = [
            encode(vae, to_unit(pictures[at : at + 512])).half()
            for at in track(range(0, len(pictures), 512), description="latents")
        ]
        torch.save(torch.cat(parts), path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)
    return torch.load(path, weights_only=True)


@torch.no_grad()
def psnr(vae: AutoencoderKL, x: torch.Tensor) -> float:
    """Mean peak signal-to-noise ratio of reconstructions of pictures in -1..1, in dB."""
    errors = []
    for part in x.split(64):
        y = vae.decode(vae.encode(part).latent_dist.mean).sample.clamp(-1, 1)
        errors.append((y - part).square().mean(dim=(1, 2, 3)) / 4)
    return float((-10 * torch.log10(torch.cat(errors))).mean())
