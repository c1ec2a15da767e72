"""Shapes of base models, as their public diffusers configurations state them.

    "sd15"         Stable Diffusion 1.5 (runwayml/stable-diffusion-v1-5)
    "sd21"         Stable Diffusion 2.1 at 768 pixels (stabilityai/stable-diffusion-2-1): v-prediction, OpenCLIP's text
    "bk-sdm-small" BK-SDM-Small (nota-ai/bk-sdm-small, arXiv 2305.15798); Segmind's small-sd is the same
    "bk-sdm-tiny"  BK-SDM-Tiny (nota-ai/bk-sdm-tiny); Segmind's tiny-sd is the same
    "sd-turbo"     SD-Turbo (stabilityai/sd-turbo): Stable Diffusion 2.1 for one step without guidance
    "lcm"          LCM Dreamshaper v7 (SimianLuo/LCM_Dreamshaper_v7): the guidance scale is an input
    "sdxl"         Stable Diffusion XL (stabilityai/stable-diffusion-xl-base-1.0): two text encoders, 2.6 G parameters
    "small"        BK-SDM-Tiny's kinds of blocks, a few channels wide

Values that are not stated here are diffusers' and transformers' defaults. `narrow` makes the quick form of any of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

Config: TypeAlias = Mapping[str, Any]
_CROSS_DOWN, _CROSS_UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
_BETAS: Config = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}
_PNDM: Config = {"_class_name": "PNDMScheduler", **_BETAS}
_VAE: Config = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "scaling_factor": 0.18215,
}
_CLIP_L: Config = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
}
# SD 2.1 keeps 23 of its 24 layers.
_OPENCLIP_H: Config = {
    **_CLIP_L,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "projection_dim": 512,
    "hidden_act": "gelu",
}
_OPENCLIP_BIG_G: Config = {
    **_CLIP_L,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}
_SD15: Config = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": (_CROSS_DOWN, _CROSS_DOWN, _CROSS_DOWN, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", _CROSS_UP, _CROSS_UP, _CROSS_UP),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
_SD2: Config = {
    **_SD15,
    "cross_attention_dim": 1024,
    # diffusers reads this as the number of heads of each level.
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
}
_BK_SMALL: Config = {**_SD15, "layers_per_block": 1, "mid_block_type": None}
_BK_TINY: Config = {
    **_BK_SMALL,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": (_CROSS_DOWN,) * 3,
    "up_block_types": (_CROSS_UP,) * 3,
}
_XL: Config = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", _CROSS_DOWN, _CROSS_DOWN),
    "up_block_types": (_CROSS_UP, _CROSS_UP, "UpBlock2D"),
    "layers_per_block": 2,
    "transformer_layers_per_block": (1, 2, 10),
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    # Six numbers of a picture's geometry and the pooled prompt.
    "projection_class_embeddings_input_dim": 6 * 256 + 1280,
}


@dataclass(frozen=True)
class Architecture:
    """Shapes of a base model's networks, and the settings that it is drawn with.

    texts: the configuration of each text encoder.
    vae: the autoencoder's configuration without the size of its pictures.
    scheduler: the content of scheduler_config.json.
    """

    title: str
    unet: Config
    texts: Sequence[Config] = (_CLIP_L,)
    vae: Config = field(default_factory=lambda: _VAE)
    scheduler: Config = field(default_factory=lambda: _PNDM)
    pipeline: str = "StableDiffusionPipeline"

    @property
    def image_size(self) -> int:
        """Pixels a side."""
        return int(8 * self.unet["sample_size"])


def narrow(architecture: Architecture) -> Architecture:
    """The same kinds of blocks, a few channels wide, for pictures of 128 pixels."""
    unet, texts = architecture.unet, architecture.texts
    levels = len(unet["block_out_channels"])
    changes: dict[str, Any] = {
        "sample_size": 16,
        "block_out_channels": (32, 64, 64, 64)[:levels],
        "cross_attention_dim": 64 * len(texts),
    }
    if isinstance(unet["attention_head_dim"], tuple):
        changes["attention_head_dim"] = (2, 4, 4, 4)[:levels]
    if "transformer_layers_per_block" in unet:
        changes["transformer_layers_per_block"] = (1, 1, 2)
    if "addition_time_embed_dim" in unet:
        changes |= {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 6 * 8 + 64}
    if "time_cond_proj_dim" in unet:
        changes["time_cond_proj_dim"] = 16
    text = {
        # As many as the tokenizer has.
        "vocab_size": None,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": 64,
    }
    return replace(
        architecture,
        title=f"{architecture.title}, narrow",
        unet={**unet, **changes},
        texts=[{**config, **text} for config in texts],
        vae={**architecture.vae, "block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4},
    )


ARCHITECTURES: dict[str, Architecture] = {
    "bk-sdm-tiny": Architecture("BK-SDM-Tiny", _BK_TINY),
    "bk-sdm-small": Architecture("BK-SDM-Small", _BK_SMALL),
    "sd15": Architecture("Stable Diffusion 1.5", _SD15),
    "lcm": Architecture(
        "LCM (Stable Diffusion 1.5)",
        {**_SD15, "time_cond_proj_dim": 256},
        scheduler={"_class_name": "LCMScheduler", **_BETAS, "original_inference_steps": 50},
        pipeline="LatentConsistencyModelPipeline",
    ),
    "sd21": Architecture(
        "Stable Diffusion 2.1, v-prediction",
        {**_SD2, "sample_size": 96, "upcast_attention": True},
        [_OPENCLIP_H],
        scheduler={"_class_name": "DDIMScheduler", **_BETAS, "prediction_type": "v_prediction"},
    ),
    "sd-turbo": Architecture(
        "SD-Turbo",
        _SD2,
        [_OPENCLIP_H],
        scheduler={
            "_class_name": "EulerDiscreteScheduler",
            **_BETAS,
            "prediction_type": "epsilon",
            "timestep_spacing": "trailing",
        },
    ),
    "sdxl": Architecture(
        "SDXL",
        _XL,
        [_CLIP_L, _OPENCLIP_BIG_G],
        vae={**_VAE, "scaling_factor": 0.13025},
        scheduler={"_class_name": "EulerDiscreteScheduler", **_BETAS, "timestep_spacing": "leading"},
        pipeline="StableDiffusionXLPipeline",
    ),
}
ARCHITECTURES["small"] = narrow(ARCHITECTURES["bk-sdm-tiny"])
