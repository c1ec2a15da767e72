"""A diffusers folder or hub id -> a pipeline that can be exported, or an ExportError that says why."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderTiny, DiffusionPipeline

from edge_sdk.errors import BundleError, ExportError
from edge_sdk.inference.bundle import Defaults, Fused, Pipeline, sha256_of
from edge_sdk.inference.schedulers import NoiseSchedule

SUPPORTED: tuple[Pipeline, ...] = (
    "StableDiffusionPipeline",
    "StableDiffusionXLPipeline",
    "LatentConsistencyModelPipeline",
)
_INDEX = "model_index.json"
_NETWORKS = ("text_encoder", "text_encoder_2", "unet", "vae")


@dataclass(frozen=True)
class FusedLora:
    """A LoRA file that becomes part of the exported weights, and how strongly."""

    path: Path
    weight: float = 1.0

    def describe(self) -> Fused:
        return Fused(name=self.path.name, sha256=sha256_of(self.path), weight=self.weight)


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


def kind_of(folder: Path) -> Pipeline:
    """The class of pipeline that a folder holds.

    Raises:
        ExportError: one that cannot be exported.
    """
    try:
        index = json.loads((folder / _INDEX).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"{folder / _INDEX} cannot be read ({error}): fetch the base model again.") from error
    kind = index.get("_class_name") if isinstance(index, dict) else None
    for supported in SUPPORTED:
        if kind == supported:
            return supported
    raise ExportError(f"{folder} is a {kind}; what can be exported is a {' or a '.join(SUPPORTED)} (text to image).")


def load_pipeline(folder: Path, fuse: Sequence[FusedLora] = ()) -> Any:
    """The pipeline of a base model in float32, ready for export.

    fuse: LoRA files to add to its weights, such as an LCM-LoRA.

    Raises:
        ExportError: another kind of pipeline, a variant of Stable Diffusion that the device cannot draw with, or a LoRA
            file that does not fit.
    """
    kind = kind_of(folder)
    _check_scheduler(folder / "scheduler" / "scheduler_config.json")
    # The XL pipeline has neither.
    unneeded = {} if kind == "StableDiffusionXLPipeline" else {"safety_checker": None, "requires_safety_checker": False}
    try:
        pipeline = getattr(diffusers, kind).from_pretrained(
            folder, torch_dtype=torch.float32, feature_extractor=None, **unneeded
        )
    # diffusers and transformers raise whatever their loaders happen to raise.
    except Exception as error:
        raise ExportError(f"diffusers cannot load {folder}: {error}") from error
    _check_networks(pipeline)
    for lora in fuse:
        _fuse(pipeline, lora)
    for network in filter(None, (getattr(pipeline, name, None) for name in _NETWORKS)):
        network.eval().requires_grad_(False)
    return pipeline


def load_preview(folder: Path, pipeline: Any) -> AutoencoderTiny:
    """A tiny autoencoder (TAESD) that decodes the pipeline's latents.

    Raises:
        ExportError: no such folder, or one whose latents are others.
    """
    try:
        # Of another class diffusers would load what names agree, and leave the rest as it fell.
        if (found := json.loads((folder / "config.json").read_text("utf-8"))["_class_name"]) != "AutoencoderTiny":
            raise ValueError(f"it is a {found}")
        preview = AutoencoderTiny.from_pretrained(folder, torch_dtype=torch.float32)
    except Exception as error:
        raise ExportError(f"{folder} holds no AutoencoderTiny that diffusers can load: {error}") from error
    factor = 2 ** (len(preview.config.decoder_block_out_channels) - 1)
    made_for = (preview.config.latent_channels, factor)
    wanted = (pipeline.vae.config.latent_channels, 2 ** (len(pipeline.vae.config.block_out_channels) - 1))
    if made_for != wanted:
        raise ExportError(
            f"{folder} decodes latents of (channels, pixels per latent) = {made_for}, the base model's are {wanted}: "
            "take the tiny autoencoder that was made for it (TAESD for Stable Diffusion, TAESDXL for SDXL)."
        )
    return preview.eval().requires_grad_(False)


def defaults_of(pipeline: Any) -> Defaults:
    """How the base model wants to be drawn with, as far as its files tell.

    Models distilled to few steps need no guidance. LCMs carry LCM's scheduler; Turbo models predict noise at trailing
    steps with Euler's, which no other family does.
    """
    config = pipeline.scheduler.config
    name = type(pipeline.scheduler).__name__
    if name == "LCMScheduler" or pipeline.unet.config.time_cond_proj_dim is not None:
        guidance = 1.0 if pipeline.unet.config.time_cond_proj_dim is None else 8.0
        return Defaults(steps=4, guidance=guidance, scheduler="lcm")
    trailing = config.get("timestep_spacing") == "trailing" and config.get("prediction_type") == "epsilon"
    if name.startswith("Euler") and trailing:
        return Defaults(steps=4, guidance=1.0, scheduler="euler")
    return Defaults()


def _fuse(pipeline: Any, lora: FusedLora) -> None:
    if not lora.path.is_file():
        raise ExportError(f"There is no file {lora.path} to fuse into the base model.")
    try:
        pipeline.load_lora_weights(lora.path.parent, weight_name=lora.path.name)
        pipeline.fuse_lora(lora_scale=lora.weight)
        pipeline.unload_lora_weights()
    # diffusers and peft raise whatever their loaders happen to raise.
    except Exception as error:
        raise ExportError(f"{lora.path} cannot be fused into the base model: {error}") from error


def _check_scheduler(path: Path) -> None:
    """The device's own reader decides."""
    try:
        NoiseSchedule.from_json(path.read_bytes())
    except (OSError, BundleError) as error:
        raise ExportError(str(error)) from error


def _check_networks(pipeline: Any) -> None:
    unet, vae = pipeline.unet.config, pipeline.vae.config
    texts = [getattr(pipeline, name, None) for name in ("text_encoder", "text_encoder_2")]
    kinds = {text.config.model_type for text in texts if text is not None}
    reasons = {
        f"the UNet takes {unet.in_channels} channels and the autoencoder has {vae.latent_channels}: "
        "an inpainting, depth or editing model": unet.in_channels != vae.latent_channels,
        f"the UNet gives {unet.out_channels} channels for {unet.in_channels}: it predicts variances too": (
            unet.out_channels != unet.in_channels
        ),
        "the UNet wants class labels": unet.class_embed_type is not None or unet.num_class_embeds is not None,
        f"the UNet wants additional conditions of the kind {unet.addition_embed_type}": (
            unet.addition_embed_type not in (None, "text_time")
        ),
        "it lacks its first text encoder, as SDXL's refiner does": texts[0] is None,
        "the autoencoder shifts its latents": getattr(vae, "shift_factor", None) is not None,
        "the autoencoder normalises its latents by channel": getattr(vae, "latents_mean", None) is not None,
        f"the text encoder is a {' and a '.join(sorted(kinds))}, not CLIP's": not kinds <= {"clip_text_model"},
        "the pictures are not square": not isinstance(unet.sample_size, int),
        "the text encoder wants an attention mask": any(
            bool(getattr(text.config, "use_attention_mask", False)) for text in texts if text is not None
        ),
    }
    for reason, holds in reasons.items():
        if holds:
            raise ExportError(f"This base model cannot be exported: {reason}.")
