"""Base models with random weights: good for measuring time and memory, not for pictures.

The tokenizer is the stickers model's: its vocabulary is smaller, which changes no measured figure.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.families.architectures import Architecture, Config

TOKENIZER = Path("samples/stickers/model/tokenizer")


def write_model(folder: Path, architecture: Architecture, *, half: bool = False, seed: int = 0) -> Path:
    """Write the diffusers folder of a base model. One network at a time is in memory.

    half: store the weights as float16, as most models are published.
    """
    import diffusers
    import torch
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER, model_max_length=77)
    networks = _networks(architecture, tokenizer)
    second = {"tokenizer_2": tokenizer} if len(architecture.texts) > 1 else {}
    others = {"tokenizer": tokenizer, **second, "scheduler": _scheduler(architecture.scheduler)}
    # The XL pipeline has other optional components.
    unneeded: dict[str, Any] = (
        {"add_watermarker": False}
        if second
        else {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    )
    with torch.device("meta"):
        without_weights = {name: make() for name, make in networks.items()}
    getattr(diffusers, architecture.pipeline)(**without_weights, **others, **unneeded).save_config(folder)
    for name, made in others.items():
        made.save_pretrained(folder / name)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(dict(architecture.scheduler)), "utf-8")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for name, make in networks.items():
            network = make()
            (network.half() if half else network).save_pretrained(folder / name)
            del network
    return folder


def write_preview(folder: Path, *, small: bool = False) -> Path:
    """Write a tiny autoencoder of TAESD's shapes (diffusers' defaults), or a narrow one."""
    import torch
    from diffusers import AutoencoderTiny

    widths = (8,) * 4 if small else (64,) * 4
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoencoderTiny(encoder_block_out_channels=widths, decoder_block_out_channels=widths).save_pretrained(folder)
    return folder


def parameters(architecture: Architecture) -> int:
    """Number of the UNet's parameters."""
    import torch

    with torch.device("meta"):
        return sum(weight.numel() for weight in _unet(architecture).parameters())


def operations(architecture: Architecture, batch: int) -> int:
    """Floating point operations of one UNet step with text conditioning only: products, convolutions, attention."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    side = architecture.unet["sample_size"]
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        prompt = torch.empty(batch, 77, architecture.unet["cross_attention_dim"])
        _unet(architecture)(torch.empty(batch, 4, side, side), 601, prompt)
    return int(counter.get_total_flops())


def _networks(architecture: Architecture, tokenizer: Any) -> dict[str, Callable[[], Any]]:
    """Component of the pipeline -> function that makes it."""
    from diffusers import AutoencoderKL
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    classes = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}
    texts = {
        name: partial(kind, _text_config(config, tokenizer))
        for (name, kind), config in zip(classes.items(), architecture.texts, strict=False)
    }
    vae = partial(AutoencoderKL, **architecture.vae, sample_size=architecture.image_size)
    return {**texts, "unet": partial(_unet, architecture), "vae": vae}


def _unet(architecture: Architecture) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(**architecture.unet)


def _text_config(config: Config, tokenizer: Any) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        **{**config, "vocab_size": config["vocab_size"] or len(tokenizer)},
        max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _scheduler(config: Config) -> Any:
    import diffusers

    return getattr(diffusers, config["_class_name"]).from_config(dict(config))
