"""Encoding of pictures and captions for the UNet, done once; then the autoencoder and the text encoder are freed."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextModel

from edge_sdk.errors import BundleError, NoPictures, PictureError, TrainingError
from edge_sdk.inference.bundle import obstacle_in, read_config, weight_variant
from edge_sdk.inference.runtime import give_back
from edge_sdk.inference.sampling import Tokenizer
from edge_sdk.pictures import Picture, fit, load_pictures, to_rgb
from edge_sdk.training.base_model import explained, freeze
from edge_sdk.training.encoding.kept import KeptEncodings

_LOG = logging.getLogger(__name__)
# The name of an argument of `from_pretrained`, since transformers 4.56.
_TYPE = "dtype" if tuple(map(int, transformers.__version__.split(".")[:2])) >= (4, 56) else "torch_dtype"
# Captions that are encoded at once; pictures by their pixels, as one of 512 x 512 takes 0.9 GB meanwhile.
_BATCH = 8
_PIXELS = 8 * 128 * 128
Pictures = Path | str | Sequence[Picture] | Sequence[tuple[Image.Image, str]]


@dataclass(frozen=True)
class Captioned:
    """Pictures and their captions, before they are encoded.

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
    """Pictures and captions, encoded for the UNet.

    Attributes:
        latents: (n, channels, h, w), scaled as the UNet expects them.
        mirrored: the same of the mirrored pictures; None if they are not used.
        prompts: (n, tokens, dim), the text encoder's last hidden state.
        empty_prompt: (1, tokens, dim), the same for "".
        digest: the digest of the `Captioned` that was encoded.
    """

    latents: Tensor
    mirrored: Tensor | None
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
        TrainingError: the folder holds no Stable Diffusion 1.x/2.x text-to-image model.
    """
    try:
        why = obstacle_in(model)
        unet, vae = (read_config(model / part / "config.json") for part in ("unet", "vae"))
    except BundleError as error:
        raise TrainingError(str(error)) from error
    if why is None and unet.get("addition_embed_type") is not None:
        why = "its UNet wants more than a prompt, as SDXL's does"
    if why is not None:
        raise TrainingError(
            f"{model} is no Stable Diffusion 1.x/2.x text-to-image model, and cannot be trained: {why}."
        )
    return int(unet["sample_size"]) << (len(vae.get("block_out_channels", (64,))) - 1)


def gather(pictures: Pictures, size: int) -> Captioned:
    """Convert the pictures of a folder, or Pillow's objects, to RGB squares of (size, size) pixels.

    Raises:
        NoPictures: there are none.
        PictureError: see `load_pictures` and `to_rgb`; or a caption is no text.
    """
    if isinstance(pictures, (str, Path)):
        pictures = load_pictures(pictures, size)
    pairs = [_pair(item, number) for number, item in enumerate(pictures, start=1)]
    if not pairs:
        raise NoPictures("There are no pictures to learn from: give at least one with its caption.")
    squares = [
        fit(to_rgb(image, f"Picture {number}"), (size, size)) for number, (image, _) in enumerate(pairs, start=1)
    ]
    return Captioned(np.stack([np.asarray(square) for square in squares]), [text for _, text in pairs])


def _pair(item: object, number: int) -> tuple[Image.Image, str]:
    if isinstance(item, Picture):
        return item.image, item.text
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise PictureError(f"Picture {number} has no caption: give pairs (image, caption), or a folder of files.")
    image, text = item
    if not isinstance(text, str):
        raise PictureError(f"The caption of picture {number} is a {type(text).__name__}: give a text.")
    return image, text


def encode(model: Path, pictures: Captioned, mirror: bool = False, kept: KeptEncodings | None = None) -> Encoded:
    """Encode pictures and captions with the autoencoder and the text encoder of a diffusers folder.

    The two are never in memory together, and only for what is not kept from earlier.

    mirror: encode the mirrored pictures, left for right, as well.
    kept: earlier encodings; None keeps none.

    A caption longer than the text encoder reads is cut, with a warning in the log that names it.

    Raises:
        TrainingError: the folder's autoencoder or text encoder cannot be loaded.
    """
    kept = kept or KeptEncodings("", None)
    texts, pixels = [*pictures.captions, ""], pictures.pixels
    both = np.concatenate([pixels, pixels[:, :, ::-1]]) if mirror else pixels
    shape = json.dumps(both.shape[1:]).encode()
    with torch.no_grad():
        prompts = kept.encoded(
            len(texts),
            lambda number: b"caption " + json.dumps(texts[number]).encode(),
            lambda missing: _encode_texts(model, [texts[number] for number in missing]),
        )
        give_back()
        encoded = kept.encoded(
            len(both),
            lambda number: b"picture " + shape + both[number].tobytes(),
            lambda missing: _encode_pixels(model, both[missing]),
        )
    give_back()
    latents, mirrored = encoded.split(len(pixels)) if mirror else (encoded, None)
    return Encoded(latents, mirrored, prompts[:-1], prompts[-1:], pictures.digest)


def _own_weights(model: Path, component: str) -> dict[str, Any]:
    """Arguments of `from_pretrained` that load the weights covered by the base id, from this folder only."""
    return {"use_safetensors": True, "variant": weight_variant(model, component), "local_files_only": True}


def _encode_pixels(model: Path, pixels: NDArray[np.uint8]) -> Tensor:
    """Latents of pixels (n, h, w, 3), uint8: posterior means, as their spread is far below the noise of training."""
    with explained(model):
        vae = AutoencoderKL.from_pretrained(
            model / "vae", torch_dtype=torch.float32, **_own_weights(model, "vae")
        ).eval()
    del vae.decoder  # half of the weights, which drawing alone needs
    at_once = max(1, min(_BATCH, _PIXELS // (pixels.shape[1] * pixels.shape[2])))
    means = [vae.encode(_scaled(pixels[i : i + at_once])).latent_dist.mean for i in range(0, len(pixels), at_once)]
    return torch.cat(means) * vae.config.scaling_factor


def _compute_in_float32(network: nn.Module) -> None:
    """Let a network compute in float32, whatever its matrices are stored in: each is widened for its product only."""
    freeze(network)
    for module in network.modules():
        if not isinstance(module, nn.Linear | nn.Conv2d):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.float()
        elif module.bias is not None:
            module.bias.data = module.bias.data.float()


def _scaled(pixels: NDArray[np.uint8]) -> Tensor:
    """Pixels (n, h, w, 3) as the autoencoder reads them: (n, 3, h, w), from -1 to 1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def _encode_texts(model: Path, texts: list[str]) -> Tensor:
    with explained(model):
        encoder = CLIPTextModel.from_pretrained(
            model / "text_encoder", **{_TYPE: "auto"}, **_own_weights(model, "text_encoder")
        ).eval()
        _compute_in_float32(encoder)
        # The SDK's own tokenizer, so that a caption has the same tokens here as in a drawing.
        tokenizer = Tokenizer(model / "tokenizer", longest=encoder.config.max_position_embeddings)
    if tokenizer.size > encoder.config.vocab_size:
        raise TrainingError(
            f"{model} has {tokenizer.size} tokens in its tokenizer and {encoder.config.vocab_size} in its text "
            "encoder: tokens were added without resizing the embeddings (text_encoder.resize_token_embeddings)."
        )
    tokens = tokenizer.encode(texts)
    for text, cut in zip(texts, tokens.cut, strict=True):
        if cut:
            _LOG.warning("Caption cut to its first %d tokens: %r", tokenizer.length - 2, text)
    return torch.cat([encoder(part)[0] for part in torch.from_numpy(tokens.ids).split(_BATCH)])
