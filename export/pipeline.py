"""A diffusers folder or hub id -> a StableDiffusionPipeline that can be exported, or an ExportError that says why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline

from edge_sdk.errors import BundleError, ExportError
from edge_sdk.inference.schedulers import NoiseSchedule

SUPPORTED = "StableDiffusionPipeline"
_INDEX = "model_index.json"


def find_model(model: str) -> Path:
    """The folder of a base model; a hub id is fetched (safetensors only) into Hugging Face's cache.

    Raises:
        ExportError: no such folder, and no such pipeline on the hub or no way to reach it.
    """
    folder = Path(model)
    if folder.is_dir():
        if not (folder / _INDEX).is_file():
            raise ExportError(
                f"{folder} is no diffusers folder: it has no {_INDEX}. Point to the folder that holds it."
            )
        return folder
    if model.count("/") != 1 or model.startswith((".", "/", "~")):
        raise ExportError(f"There is no folder {model}: give a diffusers folder, or a hub id such as 'owner/name'.")
    try:
        return Path(DiffusionPipeline.download(model, use_safetensors=True))
    # The hub client raises errors of requests, httpx, huggingface_hub and the standard library.
    except Exception as error:
        raise ExportError(f"{model} is no local folder and cannot be fetched from the hub: {error}") from error


def load_pipeline(folder: Path) -> StableDiffusionPipeline:
    """The pipeline of a base model in float32, ready for export.

    Raises:
        ExportError: another kind of pipeline, or a variant of Stable Diffusion that the device cannot draw with.
    """
    _check_kind(folder)
    _check_scheduler(folder / "scheduler" / "scheduler_config.json")
    try:
        pipeline = StableDiffusionPipeline.from_pretrained(
            folder,
            torch_dtype=torch.float32,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    # diffusers and transformers raise whatever their loaders happen to raise.
    except Exception as error:
        raise ExportError(f"diffusers cannot load {folder}: {error}") from error
    _check_networks(pipeline)
    for network in (pipeline.text_encoder, pipeline.unet, pipeline.vae):
        network.eval().requires_grad_(False)
    return pipeline


def _check_kind(folder: Path) -> None:
    try:
        index = json.loads((folder / _INDEX).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"{folder / _INDEX} cannot be read ({error}): fetch the base model again.") from error
    kind = index.get("_class_name") if isinstance(index, dict) else None
    if kind != SUPPORTED:
        raise ExportError(f"{folder} is a {kind}; only a {SUPPORTED} (text to image) can be exported.")


def _check_scheduler(path: Path) -> None:
    """The device's own reader decides."""
    try:
        NoiseSchedule.from_json(path.read_bytes())
    except (OSError, BundleError) as error:
        raise ExportError(str(error)) from error


def _check_networks(pipeline: Any) -> None:
    unet, vae, text = pipeline.unet.config, pipeline.vae.config, pipeline.text_encoder.config
    reasons = {
        f"the UNet takes {unet.in_channels} channels and the autoencoder has {vae.latent_channels}: "
        "an inpainting, depth or editing model": unet.in_channels != vae.latent_channels,
        f"the UNet gives {unet.out_channels} channels for {unet.in_channels}: it predicts variances too": (
            unet.out_channels != unet.in_channels
        ),
        "the UNet wants class labels": unet.class_embed_type is not None or unet.num_class_embeds is not None,
        "the UNet wants additional conditions, as in SDXL": unet.addition_embed_type is not None,
        "the UNet wants the guidance scale as an input, as distilled LCMs do": unet.time_cond_proj_dim is not None,
        "the autoencoder shifts its latents": getattr(vae, "shift_factor", None) is not None,
        f"the text encoder is a {text.model_type}, not CLIP's": text.model_type != "clip_text_model",
        "the pictures are not square": not isinstance(unet.sample_size, int),
        "the text encoder wants an attention mask": bool(getattr(text, "use_attention_mask", False)),
    }
    for reason, holds in reasons.items():
        if holds:
            raise ExportError(f"This base model cannot be exported: {reason}.")
