"""Base models of true shapes with random weights: right for time and memory, of no use for pictures.

    "sd15"         Stable Diffusion 1.5: UNet of 860 M parameters
    "bk-sdm-tiny"  BK-SDM-Tiny (arXiv 2305.15798): UNet of 323 M parameters
    "small"        the same kinds of blocks, a few channels wide

The first two share CLIP ViT-L/14's text encoder and the autoencoder of Stable Diffusion. The tokenizer is the stickers
model's: its words are fewer, which changes nothing that is measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

TOKENIZER = Path("samples/stickers/model/tokenizer")
_CROSS_DOWN, _CROSS_UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
_SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}
_SD15: dict[str, Any] = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": (_CROSS_DOWN, _CROSS_DOWN, _CROSS_DOWN, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", _CROSS_UP, _CROSS_UP, _CROSS_UP),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
_TINY: dict[str, Any] = _SD15 | {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": (_CROSS_DOWN,) * 3,
    "up_block_types": (_CROSS_UP,) * 3,
    "mid_block_type": None,
    "layers_per_block": 1,
}
UNETS: dict[str, dict[str, Any]] = {
    "sd15": _SD15,
    "bk-sdm-tiny": _TINY,
    "small": _TINY | {"sample_size": 16, "block_out_channels": (32, 64, 64), "cross_attention_dim": 64},
}


def write_model(folder: Path, name: str) -> Path:
    """Write the diffusers folder of a base model."""
    import torch
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    small = name == "small"
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER, model_max_length=77)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer) if small else 49408,
        hidden_size=UNETS[name]["cross_attention_dim"],
        intermediate_size=128 if small else 3072,
        num_hidden_layers=2 if small else 12,
        num_attention_heads=2 if small else 12,
        max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = StableDiffusionPipeline(
            unet=UNet2DConditionModel(**UNETS[name]),
            text_encoder=CLIPTextModel(text),
            vae=AutoencoderKL(
                block_out_channels=(8, 8, 8, 8) if small else (128, 256, 512, 512),
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                layers_per_block=2,
                norm_num_groups=4 if small else 32,
                sample_size=8 * UNETS[name]["sample_size"],
            ),
            tokenizer=tokenizer,
            scheduler=PNDMScheduler(**_SCHEDULER),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.save_pretrained(folder)
    return folder


def operations(name: str, batch: int) -> int:
    """Floating point operations of one step of the UNet: its products, convolutions and attention."""
    import torch
    from diffusers import UNet2DConditionModel
    from torch.utils.flop_counter import FlopCounterMode

    config = UNETS[name]
    side = config["sample_size"]
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        unet = UNet2DConditionModel(**config)
        unet(torch.empty(batch, 4, side, side), 601, torch.empty(batch, 77, config["cross_attention_dim"]))
    return int(counter.get_total_flops())
