"""The picture codes of pictures by a bundle: its image encoder, a privacy level."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from PIL import Image

from edge_sdk.codes.code import Code
from edge_sdk.inference import Generator
from edge_sdk.privacy import level_named, picture_code


def picture_codes(generator: Generator, pictures: Mapping[str, Image.Image], levels: Sequence[str]) -> list[Code]:
    """Return the codes of pictures, those of `different_pictures`, one for each level.

    A code is empty if the bundle has no image encoder, if there are too few different pictures for its level, or if its
    level keeps codes on the device.

    Raises:
        ConfigurationError: there is no such level.
        PictureError: a picture cannot be used, or there is none.
        BundleCorrupt: the image encoder cannot be used.
    """
    encoder = generator.bundle.index.image_encoder
    if encoder is None or not any(level_named(level).leaves for level in levels):
        return [Code(level, b"") for level in levels]
    embeddings = generator.encode_picture(list(pictures.values()))
    made = [(level, picture_code(embeddings, level) if level_named(level).leaves else b"") for level in levels]
    return [Code(level, code, bytes.fromhex(encoder.id) if code else b"") for level, code in made]


def different_pictures(pictures: Iterable[Image.Image]) -> dict[str, Image.Image]:
    """Return the pictures that count, by a hash of their pixels: equal ones count once."""
    return {
        hashlib.sha256(f"{picture.mode} {picture.size} ".encode() + picture.tobytes()).hexdigest(): picture
        for picture in pictures
    }
