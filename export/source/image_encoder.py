"""Loading of image encoders: a folder -> a CLIPVisionModelWithProjection and its preprocessing, or a clear ExportError.

A base model's own lies in its folders image_encoder and feature_extractor, as in diffusers. Any other folder holds
weights, config.json and preprocessor_config.json side by side, as CLIP's do, or is a diffusers folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from transformers import CLIPVisionModelWithProjection

from edge_sdk.errors import BundleError, ExportError
from edge_sdk.inference.bundle import IMAGE_ENCODER, MODEL_INDEX, ImageEncoder, read_config, weight_variant

_CLASS = "CLIPVisionModelWithProjection"
# A whole CLIP is read too: the text half of its weights is left out.
_ARCHITECTURES = (_CLASS, "CLIPModel")
_PROCESSORS = ("CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPFeatureExtractor")
_PREPROCESSING = "preprocessor_config.json"
_BICUBIC = 3
# Settings of a network that the shapes of its weights do not show.
_SHAPELESS = ("hidden_act", "image_size", "layer_norm_eps", "num_attention_heads", "patch_size")
# CLIPImageProcessor's defaults.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
_SIDE = 224
_ADVICE = "Take another one with --image-encoder FOLDER, or none with --no-image-encoder."


@dataclass(frozen=True)
class LoadedEncoder:
    """An image encoder.

    Attributes:
        network: the CLIPVisionModelWithProjection, in float32.
        settings: its entry in the bundle's index.
    """

    network: Any
    settings: ImageEncoder


def choose_image_encoder(wanted: str | Path | bool, model: Path) -> LoadedEncoder | None:
    """Load the wanted image encoder: True for the base model's own, if it has one; False for none; or of a folder.

    Raises:
        ExportError: there is none in the folder, or it cannot be exported.
    """
    if isinstance(wanted, bool):
        return own_image_encoder(model) if wanted else None
    return load_image_encoder(Path(wanted))


def own_image_encoder(model: Path) -> LoadedEncoder | None:
    """Load the image encoder of a diffusers folder; None if it has none.

    Raises:
        ExportError: it cannot be exported.
    """
    stated = _read(model / MODEL_INDEX).get(IMAGE_ENCODER)
    if not isinstance(stated, list) or len(stated) != 2 or stated[1] is None:
        return None
    if stated[1] != _CLASS:
        raise ExportError(f"{model}: its image_encoder is a {stated[1]}, not a {_CLASS}. {_ADVICE}")
    return _load(model / IMAGE_ENCODER, model / "feature_extractor" / _PREPROCESSING)


def load_image_encoder(folder: Path) -> LoadedEncoder:
    """Load the image encoder of a folder.

    Raises:
        ExportError: there is none, or it cannot be exported.
    """
    if not folder.is_dir():
        raise ExportError(
            f"There is no folder {folder} with an image encoder: give one on disk, hub ids are not fetched."
        )
    if (folder / MODEL_INDEX).is_file():
        found = own_image_encoder(folder)
        if found is None:
            raise ExportError(f"{folder} is a diffusers folder without an image_encoder: give the folder of one.")
        return found
    return _load(folder, folder / _PREPROCESSING)


def _load(folder: Path, preprocessing: Path) -> LoadedEncoder:
    folder = folder.resolve()
    config = _read(folder / "config.json")
    kinds = config.get("architectures") or []
    if not any(kind in _ARCHITECTURES for kind in kinds):
        stated = " and ".join(map(str, kinds)) or f"model of type {config.get('model_type')}"
        raise ExportError(f"{folder} holds a {stated}, not a {_CLASS}. {_ADVICE}")
    if not any(folder.glob("*.safetensors")):
        raise ExportError(
            f"{folder} holds no safetensors weights of an image encoder; others, such as pickles, are not read. "
            f"Convert them: {_CLASS}.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER). {_ADVICE}"
        )
    try:
        network, found = CLIPVisionModelWithProjection.from_pretrained(
            folder,
            use_safetensors=True,
            variant=weight_variant(folder.parent, folder.name),
            local_files_only=True,
            output_loading_info=True,
        )
    # transformers' loader raises errors of many kinds.
    except Exception as error:
        raise ExportError(f"The image encoder in {folder} cannot be loaded: {error} {_ADVICE}") from error
    if missing := sorted(found["missing_keys"]):
        raise ExportError(
            f"The image encoder in {folder} lacks {len(missing)} of its weights, {missing[0]} for one. {_ADVICE}"
        )
    network = network.float().eval().requires_grad_(False)
    settings = _settings(preprocessing, network)
    if settings.size != network.config.image_size:
        raise ExportError(
            f"{preprocessing} makes squares of {settings.size} pixels, the image encoder takes "
            f"{network.config.image_size}. {_ADVICE}"
        )
    return LoadedEncoder(network, settings)


def _settings(file: Path, network: Any) -> ImageEncoder:
    """Return the index's entry for a preprocessor_config.json."""
    config = _read(file)
    kind = config.get("image_processor_type", config.get("feature_extractor_type"))
    switches = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")
    off = [name for name in switches if config.get(name, True) is not True]
    reasons = {
        f"it is a {kind}, not a {_PROCESSORS[0]}": kind not in _PROCESSORS,
        f"{' and '.join(off)} is off": bool(off),
        f"resample is {config.get('resample')}, not {_BICUBIC} (bicubic)": config.get("resample", _BICUBIC) != _BICUBIC,
        f"rescale_factor is {config.get('rescale_factor')}, not 1/255": not _is_255th(config.get("rescale_factor")),
    }
    for reason, holds in reasons.items():
        if holds:
            raise _unusable(file, reason)
    given = {
        "resize": _side(config.get("size"), "shortest_edge"),
        "size": _side(config.get("crop_size"), "height", "width"),
        "mean": _channels(config.get("image_mean"), _MEAN),
        "std": _channels(config.get("image_std"), _STD),
        "dimensions": network.config.projection_dim,
    }
    try:
        settings = msgspec.convert({**given, "id": "0" * 64}, ImageEncoder)
    except msgspec.ValidationError as error:
        raise _unusable(file, f"{error}; size {config.get('size')}, crop_size {config.get('crop_size')}") from error
    return msgspec.structs.replace(settings, id=_id(network, settings))


def _id(network: Any, preprocessing: ImageEncoder) -> str:
    """Return the encoder's id: as with a base id, it is that of its numbers, however they are stored.

    SHA-256 in hex over the preprocessing and those settings of the network that shapes do not show, as JSON, and a zero
    byte; then over every weight, sorted by name: its name and a zero byte, its shape as "96x3x8x8" and a zero byte, its
    values as little-endian float32. A leading "vision_model." is dropped, which not all versions of transformers have.
    """
    stated = {name: getattr(network.config, name) for name in _SHAPELESS}
    told = {name: value for name, value in msgspec.structs.asdict(preprocessing).items() if name != "id"} | stated
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode() + b"\0")
    weights = {name.removeprefix("vision_model."): weight for name, weight in network.named_parameters()}
    for name in sorted(weights):
        values = np.ascontiguousarray(weights[name].detach().numpy(), dtype="<f4")
        digest.update(f"{name}\0{'x'.join(map(str, values.shape))}\0".encode())
        digest.update(values.data)
    return digest.hexdigest()


def _is_255th(factor: object) -> bool:
    return factor is None or (isinstance(factor, float) and abs(255 * factor - 1) < 1e-4)


def _side(stated: object, *names: str) -> object:
    """Return the side of a square, stated as a number or by these names alone; what is stated in any other form."""
    if stated is None:
        return _SIDE
    if isinstance(stated, Mapping) and set(stated) == set(names) and len(set(stated.values())) == 1:
        return stated[names[0]]
    return stated


def _channels(stated: object, usual: tuple[float, float, float]) -> object:
    return usual if stated is None else [stated] * 3 if isinstance(stated, float) else stated


def _unusable(file: Path, reason: str) -> ExportError:
    return ExportError(f"The preprocessing in {file} cannot be exported: {reason}. {_ADVICE}")


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ExportError(f"There is no {file}, which an image encoder needs. {_ADVICE}")
    try:
        return read_config(file)
    except BundleError as error:
        raise ExportError(str(error)) from error
