"""The diffusers folder of a base model: its configurations, read once for both export and training.

Inside a network, its own code obeys every field of its configuration. This module checks the fields that change how a
network must be called, or how its results are processed, in a way that neither drawing nor training supports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from edge_sdk.errors import BundleCorrupt, BundleMissing

# A config.json, or the configuration of a loaded network; missing fields have diffusers' defaults.
Config: TypeAlias = Mapping[str, Any]
MODEL_INDEX = "model_index.json"
# Part's name in the folder -> the classes that are supported.
CLASSES: Mapping[str, tuple[str, ...]] = {
    "text_encoder": ("CLIPTextModel",),
    "text_encoder_2": ("CLIPTextModelWithProjection",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "tokenizer_2": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
}


def read_config(file: Path) -> dict[str, Any]:
    """A configuration of a part of a diffusers folder, or its model_index.json.

    Raises:
        BundleMissing: there is no such file.
        BundleCorrupt: it is no JSON map.
    """
    folder = file.parent if file.name == MODEL_INDEX else file.parent.parent
    try:
        config = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except FileNotFoundError as error:
        if (folder / "impasto.json").is_file():
            raise BundleMissing(
                f"{folder} is a bundle, which is for drawing. Give the base model that it was exported from: a "
                f"diffusers folder, the one that holds {MODEL_INDEX} and the weights."
            ) from error
        raise BundleMissing(
            f"{folder} is no diffusers folder: there is no {file.relative_to(folder)} in it. "
            f"Give the folder that holds {MODEL_INDEX}."
        ) from error
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleCorrupt(f"{file} cannot be read ({str(error)[:300]}): fetch the base model again.") from error
    return config


def strange_class(index: Config) -> str | None:
    """Words that name the part of a model_index.json with an unsupported class, and the class; None if all are fine."""
    for part, classes in CLASSES.items():
        stated = index.get(part)
        name = stated[1] if isinstance(stated, list) and len(stated) == 2 else None
        if name is not None and name not in classes:
            return f"its {part} is a {name}, not a {' or a '.join(classes)}"
    return None


def obstacle_in(folder: Path) -> str | None:
    """Return the reason of `obstacle` or `strange_class` for a diffusers folder; None if there is none.

    Raises:
        BundleMissing, BundleCorrupt: a configuration is missing, or is no JSON map.
    """
    index = read_config(folder / MODEL_INDEX) if (folder / MODEL_INDEX).is_file() else None
    texts = [
        name
        for name in ("text_encoder", "text_encoder_2")
        if (name == "text_encoder" if index is None else isinstance(index.get(name), list) and index[name][1])
    ]
    unet, vae, *others = (read_config(folder / part / "config.json") for part in ("unet", "vae", *texts))
    return strange_class(index or {}) or obstacle(unet, vae, others if "text_encoder" in texts else [])


def obstacle(unet: Config, vae: Config, texts: Sequence[Config]) -> str | None:
    """Return the reason why a base model can be neither drawn with nor trained; None if it can.

    texts: configurations of its text encoders, in their order.
    """
    kinds = {str(text.get("model_type")) for text in texts}
    # diffusers' defaults.
    channels, latents = unet.get("in_channels", 4), vae.get("latent_channels", 4)
    reasons = {
        f"the UNet takes {channels} channels and the autoencoder has {latents}: "
        "an inpainting, depth or editing model": channels != latents,
        f"the UNet gives {unet.get('out_channels', 4)} channels for {channels}: it predicts variances too": (
            unet.get("out_channels", 4) != channels
        ),
        "the UNet wants class labels": (
            unet.get("class_embed_type") is not None or unet.get("num_class_embeds") is not None
        ),
        f"the UNet wants additional conditions of the kind {unet.get('addition_embed_type')}": (
            unet.get("addition_embed_type") not in (None, "text_time")
        ),
        f"the UNet wants its prompts projected by {unet.get('encoder_hid_dim_type')}": (
            unet.get("encoder_hid_dim_type") is not None
        ),
        f"the UNet has attention of the kind {unet.get('attention_type')}, which wants boxes": (
            unet.get("attention_type", "default") != "default"
        ),
        "it lacks its first text encoder, as SDXL's refiner does": not texts,
        "the autoencoder shifts its latents": vae.get("shift_factor") is not None,
        "the autoencoder normalises its latents by channel": (
            vae.get("latents_mean") is not None or vae.get("latents_std") is not None
        ),
        f"the text encoder is a {' and a '.join(sorted(kinds))}, not CLIP's": not kinds <= {"clip_text_model"},
        "the pictures are not square": not isinstance(unet.get("sample_size"), int),
        "the text encoder wants an attention mask": any(bool(text.get("use_attention_mask")) for text in texts),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)
