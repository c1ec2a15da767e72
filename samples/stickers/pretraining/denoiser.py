"""Stage 3: the UNet, trained together with the text encoder: v-prediction, dropped captions, EMA.

All timesteps weigh the same. Min-SNR weights for v-prediction, min(snr, 5) / (snr + 1), vanish at high noise, where a
caption decides what is drawn.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTextModel, CLIPTokenizer

from samples.stickers.base_styles import BASE_STYLES
from samples.stickers.pretraining.captions import Captions
from samples.stickers.pretraining.corpus import Drawn
from samples.stickers.pretraining.loop import Ema, Log, load_checkpoint, run, save_checkpoint
from samples.stickers.pretraining.text import WIDTH, tokenize

CHANNELS = (96, 160, 192)
HEAD_SIZE = 32


def new_unet(latent_channels: int, latent_size: int) -> UNet2DConditionModel:
    """A UNet with attention at 8x8 and 4x4 only: at 16x16 it would triple the time of a step."""
    torch.manual_seed(2)
    return UNet2DConditionModel(
        sample_size=latent_size,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        # diffusers reads this as the number of heads.
        attention_head_dim=[width // HEAD_SIZE for width in CHANNELS],
        norm_num_groups=16,
    )


def new_scheduler() -> DDIMScheduler:
    """A scheduler with linear betas: they end at almost no signal, so the white page is learned, not left in noise."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


def learning_rate(step: int, steps: int, peak: float, warmup: int = 300, cooldown: float = 0.25) -> float:
    """Learning rate of a step: warm-up, plateau, then linear to a fiftieth of the peak over the last quarter.

    A longer run shares the plateau of a shorter one.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    left = (steps - step) / (cooldown * steps)
    return peak * max(0.02, min(1.0, left))


def row_shares(corpus: list[Drawn]) -> torch.Tensor:
    """Probability of each row: a fifth of all draws are artwork as it is, three in ten are pairs of styles."""
    kinds = [2 if len(row.styles) == 2 else int(BASE_STYLES[row.styles[0]].kind != "artwork") for row in corpus]
    counts = [kinds.count(kind) for kind in range(3)]
    return torch.tensor([(0.2, 0.5, 0.3)[kind] / counts[kind] for kind in kinds], dtype=torch.float64)


def train(
    unet: UNet2DConditionModel,
    tokenizer: CLIPTokenizer,
    text: CLIPTextModel,
    corpus: list[Drawn],
    latents: torch.Tensor,
    work: Path,
    steps: int,
    batch: int = 32,
    peak: float = 6e-4,
) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """Train or resume; return the averaged UNet and text encoder."""
    unet.to(memory_format=torch.channels_last)
    unet.train()
    text.train()
    parameters = [*unet.parameters(), *text.parameters()]
    optimizer = torch.optim.AdamW(
        [{"params": list(unet.parameters()), "scale": 1.0}, {"params": list(text.parameters()), "scale": 0.3}],
        lr=peak,
        betas=(0.9, 0.99),
        weight_decay=0.01,
        fused=True,
    )
    ema, log, start, path = Ema(0.9993), Log(work / "denoiser.jsonl"), 0, work / "denoiser.pt"
    if state := load_checkpoint(path):
        unet.load_state_dict(state["unet"])
        text.load_state_dict(state["text"])
        optimizer.load_state_dict(state["optimizer"])
        ema.shadow, start, log.seconds = state["ema"], state["step"], state["seconds"]
    scheduler, shares, captions = new_scheduler(), row_shares(corpus), Captions(corpus)

    def one_step(step: int) -> dict[str, float]:
        for group in optimizer.param_groups:
            group["lr"] = group["scale"] * learning_rate(step, steps, peak)
        rng, words = torch.Generator().manual_seed(step), random.Random(step)
        rows = torch.multinomial(shares, batch, replacement=True, generator=rng)
        ids = tokenize(tokenizer, [captions.variant(corpus[i], words) for i in rows.tolist()])
        # One timestep from each of `batch` equal parts of the range: less variance than independent draws.
        t = ((torch.arange(batch) + torch.rand(batch, generator=rng)) * (1000 / batch)).long()
        clean = latents[rows].float()
        noise = torch.randn(clean.shape, generator=rng)
        noisy = scheduler.add_noise(clean, noise, t).contiguous(memory_format=torch.channels_last)
        target = scheduler.get_velocity(clean, noise, t)
        # The fused attention's backward in bf16 is slow on CPUs for sequences this short.
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            hidden = text(ids).last_hidden_state
            predicted = unet(noisy, t, hidden).sample
        loss = F.mse_loss(predicted.float(), target)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        ema.update(parameters, step)
        return {"v_loss": loss.item(), "grad": float(norm)}

    def save(step: int) -> None:
        state = {"unet": unet.state_dict(), "text": text.state_dict(), "optimizer": optimizer.state_dict()}
        save_checkpoint(path, state | {"ema": ema.shadow, "step": step, "seconds": log.seconds})

    run(steps, start, one_step, save, log)
    ema.copy_to(parameters)
    return unet.eval(), text.eval()
