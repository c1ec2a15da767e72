"""Pictures and captions as the UNet sees them, computed once; the autoencoder and the text encoder are freed again."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from edge_sdk.errors import NoPictures, PictureError, TrainingError
from edge_sdk.pictures import Picture, fit, load_pictures, to_rgb

_LOG = logging.getLogger(__name__)
_BATCH = 8
Pictures = Path | str | Sequence[Picture] | Sequence[tuple[Image.Image, str]]


@dataclass(frozen=True)
class Captioned:
    """Pictures and their captions, as they come.

    Attributes:
        pixels: (n, size, size, 3), uint8.
        captions: n of them.
    """

    pixels: NDArray[np.uint8]
    captions: list[str]

    @property
    def digest(self) -> str:
        """SHA-256 over pixels and captions, in hex."""
        digest = hashlib.sha256(self.pixels.tobytes())
        digest.update(json.dumps(self.captions).encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Encoded:
    """Pictures and captions, ready for the UNet.

    Attributes:
        latents: (n, channels, h, w), scaled as the UNet expects them.
        prompts: (n, tokens, dim), the text encoder's last hidden state.
        empty_prompt: (1, tokens, dim), that of "".
        digest: of the `Captioned` that this was.
    """

    latents: Tensor
    prompts: Tensor
    empty_prompt: Tensor
    digest: str

    def __len__(self) -> int:
        return len(self.latents)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, h, w) of one latent."""
        channels, height, width = self.latents.shape[1:]
        return channels, height, width


def image_size(model: Path) -> int:
    """Side in pixels of the pictures that a diffusers folder draws.

    Raises:
        TrainingError: no Stable Diffusion folder, or one of another kind than text to square image.
    """
    unet = _config(model / "unet" / "config.json", _UNetConfig)
    vae = _config(model / "vae" / "config.json", _AutoencoderConfig)
    if unet.in_channels != vae.latent_channels or unet.addition_embed_type is not None:
        raise TrainingError(f"{model} is no Stable Diffusion 1.x/2.x text-to-image model; it cannot be trained.")
    return unet.sample_size << (len(vae.block_out_channels) - 1)


def load_unet(model: Path) -> UNet2DConditionModel:
    """The frozen UNet in float32, channels last, its dropout off."""
    with _explained(model):
        unet = UNet2DConditionModel.from_pretrained(model / "unet", use_safetensors=True, torch_dtype=torch.float32)
    return unet.requires_grad_(False).eval().to(memory_format=torch.channels_last)


class _UNetConfig(msgspec.Struct):
    sample_size: int
    in_channels: int
    addition_embed_type: str | None = None


class _AutoencoderConfig(msgspec.Struct):
    latent_channels: int
    block_out_channels: list[int]


_Config = TypeVar("_Config", _UNetConfig, _AutoencoderConfig)


def gather(pictures: Pictures, size: int) -> Captioned:
    """Bring pictures to RGB squares of (size, size) pixels, those of a folder and Pillow's objects alike.

    Raises:
        NoPictures: there are none.
        PictureError: see `load_pictures` and `to_rgb`; a caption is no text.
    """
    if isinstance(pictures, (str, Path)):
        pictures = load_pictures(pictures, size)
    pairs = [(item.image, item.text) if isinstance(item, Picture) else item for item in pictures]
    if not pairs:
        raise NoPictures("There are no pictures to learn from: give at least one with its caption.")
    for number, (_, text) in enumerate(pairs, start=1):
        if not isinstance(text, str):
            raise PictureError(f"The caption of picture {number} is a {type(text).__name__}: give a text.")
    squares = [
        fit(to_rgb(image, f"Picture {number}"), (size, size)) for number, (image, _) in enumerate(pairs, start=1)
    ]
    return Captioned(np.stack([np.asarray(square) for square in squares]), [text for _, text in pairs])


def encode(model: Path, pictures: Captioned) -> Encoded:
    """Encode pictures and captions with the autoencoder and the text encoder of a diffusers folder.

    A caption longer than the text encoder reads is cut, with a warning in the log that names it.

    Raises:
        TrainingError: the folder's autoencoder or text encoder cannot be loaded.
    """
    with torch.no_grad():
        prompts = _encode_texts(model, [*pictures.captions, ""])
        return Encoded(_encode_pixels(model, pictures.pixels), prompts[:-1], prompts[-1:], pictures.digest)


def _config(file: Path, kind: type[_Config]) -> _Config:
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except FileNotFoundError as error:
        raise TrainingError(
            f"{file.parent.parent} is no diffusers folder: there is no {file.parent.name}/{file.name} in it. "
            "Give the folder that holds model_index.json."
        ) from error
    except (OSError, msgspec.DecodeError) as error:
        raise TrainingError(
            f"{file} is not the config of a Stable Diffusion part that draws square pictures: {error}"
        ) from error


def _encode_pixels(model: Path, pixels: NDArray[np.uint8]) -> Tensor:
    """(n, h, w, 3) uint8 -> latents: posterior means, whose spread is far below the noise that training adds."""
    with _explained(model):
        vae = AutoencoderKL.from_pretrained(model / "vae", use_safetensors=True, torch_dtype=torch.float32).eval()
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    means = torch.cat([vae.encode(part).latent_dist.mean for part in x.split(_BATCH)])
    return (means - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor


def _encode_texts(model: Path, texts: list[str]) -> Tensor:
    with _explained(model):
        tokenizer = CLIPTokenizer.from_pretrained(model / "tokenizer")
        # Not by an argument, whose name and default differ between versions of transformers.
        encoder = CLIPTextModel.from_pretrained(model / "text_encoder", use_safetensors=True).float().eval()
    limit = tokenizer.model_max_length
    for text in texts:
        if len(tokenizer(text, truncation=False, verbose=False).input_ids) > limit:
            _LOG.warning("Caption cut to its first %d tokens: %r", limit - 2, text)
    ids = tokenizer(texts, padding="max_length", max_length=limit, truncation=True, return_tensors="pt").input_ids
    return torch.cat([encoder(part)[0] for part in ids.split(_BATCH)])


@contextmanager
def _explained(model: Path) -> Iterator[None]:
    """Turn what diffusers and transformers raise for a damaged folder into one named error."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise TrainingError(f"{model} cannot be loaded as a diffusers folder: {error}") from error
