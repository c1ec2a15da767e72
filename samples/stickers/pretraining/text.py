"""Stage 2: a small CLIPTextModel, warmed up by matching captions and latents.

The warm-up is CLIP's symmetric contrastive loss against a throw-away convolutional network over the latents. It takes
minutes; otherwise the denoiser would have to teach words one by one, at a hundred times the cost of a step.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from samples.stickers.pretraining.captions import MAX_TOKENS, Captions
from samples.stickers.pretraining.corpus import Drawn
from samples.stickers.pretraining.loop import Log, load_checkpoint, run, save_checkpoint, warmup_cosine
from samples.stickers.styles import plain_caption

WIDTH = 192


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=4,
            num_attention_heads=6,
            max_position_embeddings=MAX_TOKENS,
            projection_dim=WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            # The default of 0.02 is made for widths of 512 and more.
            initializer_factor=2.0,
        )
    )


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """Token ids, (n, 32) int64, as StableDiffusionPipeline makes them: padded or cut to the model's length."""
    return tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids


def mean_token(hidden: torch.Tensor, ids: torch.Tensor, end: int) -> torch.Tensor:
    """Mean of the hidden states up to and including the first end token: the mean that prompt codes use."""
    ends = (ids == end).int().argmax(dim=1, keepdim=True)
    mask = (torch.arange(ids.shape[1]) <= ends).float().unsqueeze(-1)
    return (hidden * mask).sum(1) / mask.sum(1)


class LatentEncoder(nn.Sequential):
    """Latents (n, channels, 16, 16) -> (n, width)."""

    def __init__(self, channels: int, width: int) -> None:
        layers: list[nn.Module] = []
        for inner, stride in ((64, 1), (128, 2), (192, 2), (256, 2)):
            layers += [nn.Conv2d(channels, inner, 3, stride, 1), nn.GroupNorm(16, inner), nn.SiLU()]
            channels = inner
        super().__init__(*layers, nn.Flatten(), nn.Linear(channels * 4, width))


def warm_up(
    tokenizer: CLIPTokenizer, corpus: list[Drawn], latents: torch.Tensor, work: Path, steps: int, batch: int = 128
) -> CLIPTextModel:
    """Train or resume the warm-up; return the text encoder."""
    torch.manual_seed(1)
    text, image = new_text_encoder(tokenizer), LatentEncoder(latents.shape[1], WIDTH)
    image.to(memory_format=torch.channels_last)
    scale = nn.Parameter(torch.tensor(2.5))
    parameters = [*text.parameters(), *image.parameters(), scale]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.02)
    log, start, path = Log(work / "text.jsonl"), 0, work / "text.pt"
    if state := load_checkpoint(path):
        text.load_state_dict(state["text"])
        image.load_state_dict(state["image"])
        scale.data.copy_(state["scale"])
        optimizer.load_state_dict(state["optimizer"])
        start, log.seconds = state["step"], state["seconds"]

    captions = Captions(corpus)

    def one_step(step: int) -> dict[str, float]:
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * warmup_cosine(step, steps, 50)
        rng, words = torch.Generator().manual_seed(step), random.Random(step)
        rows = torch.randint(len(corpus), (batch,), generator=rng)
        texts = [captions.variant(corpus[i], words) or plain_caption(corpus[i].subject) for i in rows.tolist()]
        # Attention is causal, so that shorter padding changes nothing but the time.
        ids = tokenizer(texts, padding="longest", truncation=True, return_tensors="pt").input_ids
        clean = latents[rows].float()
        noisy = clean + 0.3 * torch.randn(clean.shape, generator=rng)
        with torch.autocast("cpu", torch.bfloat16):
            hidden, seen = text(ids).last_hidden_state, image(noisy.contiguous(memory_format=torch.channels_last))
        t = F.normalize(mean_token(hidden.float(), ids, tokenizer.eos_token_id), dim=1)
        logits = scale.exp().clamp(max=50) * t @ F.normalize(seen.float(), dim=1).T
        target = torch.arange(batch)
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return {"loss": loss.item(), "right": (logits.argmax(1) == target).float().mean().item()}

    def save(step: int) -> None:
        state = {"text": text.state_dict(), "image": image.state_dict(), "scale": scale.data}
        save_checkpoint(path, state | {"optimizer": optimizer.state_dict(), "step": step, "seconds": log.seconds})

    run(steps, start, one_step, save, log)
    return text
