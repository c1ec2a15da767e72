"""Pictures to embeddings by the bundle's image encoder, from which picture codes are made.

The preprocessing is that of transformers' CLIPImageProcessor, in Pillow and numpy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from edge_sdk.errors import BundleCorrupt, BundleError
from edge_sdk.inference.bundle import IMAGE_ENCODER, Bundle, ImageEncoder
from edge_sdk.inference.runtime import Stages
from edge_sdk.pictures import to_rgb

Floats = npt.NDArray[np.float32]
_TOGETHER = 8  # pictures in a run: bounds memory
_INPUT, _OUTPUT = "pixel_values", "image_embeds"
_LONGEST_STRIP = 16  # the ends of a longer picture are cut off first: resized whole, it could fill the memory


class PictureEncoder:
    """The image encoder of a bundle."""

    def __init__(self, bundle: Bundle, stages: Stages) -> None:
        self._bundle = bundle
        self._stages = stages

    def encode(self, pictures: Sequence[Image.Image]) -> Floats:
        """Embeddings (n, dim) of pictures.

        Raises:
            BundleError: the bundle has no image encoder.
            BundleCorrupt: its embeddings are not as the index describes them.
            PictureError: a picture cannot be used.
        """
        settings = self._bundle.index.image_encoder
        if settings is None:
            raise BundleError(
                f"The bundle in {self._bundle.folder} has no image encoder: export it with --image-encoder and the "
                "folder of one (CLIP ViT-B/32, for instance)."
            )
        found = np.zeros((len(pictures), settings.dimensions), np.float32)
        for first in range(0, len(pictures), _TOGETHER):
            some = slice(first, first + _TOGETHER)
            pixels = np.stack([pixel_values(picture, settings) for picture in pictures[some]])
            embeddings = self._stages.run(IMAGE_ENCODER, [_OUTPUT], {_INPUT: pixels})[0]
            if embeddings.shape != (len(pixels), settings.dimensions) or not np.isfinite(embeddings).all():
                raise BundleCorrupt(
                    f"The image encoder in {self._bundle.folder} does not give {settings.dimensions} finite numbers a "
                    "picture, as the index says: export or copy the bundle again."
                )
            found[some] = embeddings
        return found


def pixel_values(picture: Image.Image, settings: ImageEncoder) -> Floats:
    """The encoder's input (3, size, size) for a picture.

    Raises:
        PictureError: see `edge_sdk.pictures.to_rgb`.
    """
    rgb = to_rgb(picture)
    most = _LONGEST_STRIP * min(rgb.size)
    if max(rgb.size) > most:
        rgb = _central(rgb, (min(rgb.width, most), min(rgb.height, most)))
    shorter = min(rgb.size)
    # The longer side is rounded down, as CLIPImageProcessor does.
    sides = (int(settings.resize * rgb.width / shorter), int(settings.resize * rgb.height / shorter))
    square = _central(rgb.resize(sides, Image.Resampling.BICUBIC), (settings.size, settings.size))
    scaled = np.asarray(square, np.float32) / np.float32(255)
    normal = (scaled - np.asarray(settings.mean, np.float32)) / np.asarray(settings.std, np.float32)
    return np.ascontiguousarray(normal.transpose(2, 0, 1))


def _central(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The central part of this size (width, height)."""
    left, top = (picture.width - size[0]) // 2, (picture.height - size[1]) // 2
    return picture.crop((left, top, left + size[0], top + size[1]))
