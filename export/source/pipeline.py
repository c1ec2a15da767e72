"""Loading of base models: a diffusers folder or hub id -> a pipeline that can be exported, or a clear ExportError."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderTiny, DiffusionPipeline

from edge_sdk import mistaken
from edge_sdk.errors import BundleError, ExportError
from edge_sdk.inference.bundle import MODEL_INDEX, Config, Defaults, Pipeline, obstacle_in, read_config, weight_variant
from edge_sdk.inference.sampling import NoiseSchedule, check_vocabulary

SUPPORTED: tuple[Pipeline, ...] = (
    "StableDiffusionPipeline",
    "StableDiffusionXLPipeline",
    "LatentConsistencyModelPipeline",
)
_NETWORKS = ("text_encoder", "text_encoder_2", "unet", "vae")
_TOKENIZERS = {"tokenizer": "text_encoder", "tokenizer_2": "text_encoder_2"}


def find_model(model: str) -> Path:
    """Return the folder of a base model; a hub id is fetched (safetensors only) into Hugging Face's cache.

    Raises:
        ExportError: there is no such folder, and no such pipeline on the hub or no connection to it.
    """
    folder = Path(model)
    if folder.is_dir():
        if not (folder / MODEL_INDEX).is_file():
            raise ExportError(
                f"{folder} is no diffusers folder: it has no {MODEL_INDEX}. Give the folder that holds it."
            )
        return folder
    if folder.is_file():
        raise ExportError(
            f"{folder} is a file: {mistaken.explain_file(folder) or 'a checkpoint in one piece'}. What is exported is "
            "a diffusers folder, which diffusers makes of a checkpoint: "
            "StableDiffusionPipeline.from_single_file(FILE).save_pretrained(FOLDER)."
        )
    if model.count("/") != 1 or model.startswith((".", "/", "~")):
        raise ExportError(f"There is no folder {model}: give a diffusers folder, or a hub id such as 'owner/name'.")
    try:
        return Path(DiffusionPipeline.download(model, use_safetensors=True))
    # The hub client raises errors of requests, httpx, huggingface_hub and the standard library.
    except Exception as error:
        raise ExportError(f"{model} is no local folder and cannot be fetched from the hub: {error}") from error


def kind_of(folder: Path) -> Pipeline:
    """Return the pipeline class of a folder.

    Raises:
        ExportError: the class cannot be exported.
    """
    kind = _config(folder / MODEL_INDEX).get("_class_name")
    for supported in SUPPORTED:
        if kind == supported:
            return supported
    raise ExportError(f"{folder} is a {kind}; what can be exported is a {' or a '.join(SUPPORTED)} (text to image).")


def load_pipeline(folder: Path) -> Any:
    """Load the pipeline of a base model in float32, ready for export.

    Raises:
        ExportError: it is another kind of pipeline, or a variant of Stable Diffusion that devices cannot draw with.
        BundleMissing, BundleCorrupt: it has no readable safetensors weights.
    """
    kind = kind_of(folder)
    _check_scheduler(folder)
    index = _config(folder / MODEL_INDEX)
    networks = [name for name in _NETWORKS if isinstance(index.get(name), list) and index[name][1]]
    _check(folder, index)
    for tokenizer, encoder in _TOKENIZERS.items():
        if encoder in networks:
            check_vocabulary(folder / tokenizer)
    # The XL pipeline has neither.
    unneeded = {} if kind == "StableDiffusionXLPipeline" else {"safety_checker": None, "requires_safety_checker": False}
    try:
        loaded = {name: _load_network(folder, name, index[name][1]) for name in networks}
        pipeline = getattr(diffusers, kind).from_pretrained(
            folder, local_files_only=True, feature_extractor=None, image_encoder=None, **loaded, **unneeded
        )
    except BundleError:
        raise
    # The loaders of diffusers and transformers raise errors of many kinds.
    except Exception as error:
        raise ExportError(f"diffusers cannot load {folder}: {error}") from error
    for network in loaded.values():
        network.eval().requires_grad_(False)
    for tokenizer, encoder in _TOKENIZERS.items():
        if encoder in loaded:
            _fit_tokenizer(getattr(pipeline, tokenizer), loaded[encoder].config)
    return pipeline


def load_preview(folder: Path, pipeline: Any) -> AutoencoderTiny:
    """Load a tiny autoencoder (TAESD) that decodes the pipeline's latents.

    Raises:
        ExportError: the folder holds none, or its latents have another shape.
    """
    try:
        # From another class diffusers would load the weights of equal names, and leave the others random.
        if (found := json.loads((folder / "config.json").read_text("utf-8"))["_class_name"]) != "AutoencoderTiny":
            raise ValueError(f"it is a {found}")
        preview = AutoencoderTiny.from_pretrained(
            folder, torch_dtype=torch.float32, use_safetensors=True, local_files_only=True
        )
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
    """Return the base model's own settings for drawing, as far as its files state them.

    Models distilled to few steps need no guidance. LCMs have the LCM scheduler; Turbo models predict noise at trailing
    steps with Euler's scheduler, as no other family does.
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


def _check_scheduler(folder: Path) -> None:
    """Check the scheduler with the device's own reader."""
    try:
        NoiseSchedule.of_model(folder)
    except BundleError as error:
        raise ExportError(str(error)) from error


def _check(folder: Path, index: Config) -> None:
    """Check that devices can draw with all parts, by the same reading as training's."""
    try:
        why = obstacle_in(folder)
    except BundleError as error:
        raise ExportError(str(error)) from error
    if why is None and index.get("requires_aesthetics_score"):
        why = "it wants an aesthetics score, as SDXL's refiner does"
    if why is not None:
        raise ExportError(f"This base model cannot be exported: {why}.")


def _config(file: Path) -> Config:
    try:
        return read_config(file)
    except BundleError as error:
        raise ExportError(str(error)) from error


def _load_network(folder: Path, name: str, kind: str) -> Any:
    """Load one network in float32, from the weights that the base id is computed from."""
    library = transformers if name.startswith("text_encoder") else diffusers
    network = getattr(library, kind).from_pretrained(
        folder / name, use_safetensors=True, variant=weight_variant(folder, name), local_files_only=True
    )
    # Not by an argument, as its name and default differ between versions of transformers.
    return network.float()


def _fit_tokenizer(tokenizer: Any, text: Any) -> None:
    """Limit the tokenizer's length to the text encoder's, also if its files state none.

    Raises:
        ExportError: it has tokens that the text encoder has no embedding for.
    """
    tokenizer.model_max_length = min(tokenizer.model_max_length, text.max_position_embeddings)
    if len(tokenizer) > text.vocab_size:
        raise ExportError(
            f"The tokenizer has {len(tokenizer)} tokens and the text encoder {text.vocab_size}: tokens were added "
            "without resizing the embeddings (text_encoder.resize_token_embeddings)."
        )
