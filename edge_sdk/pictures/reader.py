"""The one reader of pictures, for files and for Pillow's objects: upright, eight bits a channel, sRGB on white."""

from __future__ import annotations

import io
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from edge_sdk.errors import PictureError, PictureUnreadable
from edge_sdk.pictures.formats import readable, what_it_is

# Pixels: a photograph of 64 megapixels decodes into 192 MB; a larger one is a mistake or an attack.
MAX_PIXELS = 64_000_000
# Pillow's mode -> the name of its colour space in a profile.
_COLOUR_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_picture(path: Path | str, size: int | None = None) -> Image.Image:
    """Decode one file, as `to_rgb` does. The size in its header is checked before any pixel is decoded.

    size: pixels a side that are enough, which saves memory; None decodes all.

    Raises:
        PictureUnreadable: the file is missing, cannot be decoded, or has too many pixels.
    """
    path = Path(path)
    _check_kind(path)
    try:
        with _quiet():
            image = Image.open(path, formats=readable())
    except Image.DecompressionBombError as error:
        raise PictureUnreadable(
            f"{path} has too many pixels: at most {MAX_PIXELS:,} are read. Scale it down."
        ) from error
    except UnidentifiedImageError as error:
        reason = what_it_is(path) or "it is no picture that Pillow knows"
        raise _unreadable(str(path), reason) from error
    except Exception as error:  # see to_rgb
        raise _unreadable(str(path), error) from error
    with image:
        _check_size(str(path), image)
        if size is not None:
            # A JPEG can be decoded at a fraction of its size, which saves a small device most of the memory.
            image.draft("RGB", (2 * size, 2 * size))
        return to_rgb(image, str(path))


def to_rgb(image: Image.Image, name: str = "The picture") -> Image.Image:
    """The picture as it is meant to be seen: RGB, upright as the camera was held, white where it is transparent.

    Grey of 16 bits keeps its shades, and colours of a profile (ICC) become sRGB's. In an animation, the current frame
    counts, which is the first one unless the caller chose another. `image` itself is not changed.

    name: the picture's name in errors.

    Raises:
        PictureError: it is no Pillow image.
        PictureUnreadable: it cannot be decoded, has no or too many pixels, or its numbers have no known range.
    """
    if not isinstance(image, Image.Image):
        raise PictureError(f"{name} is a {type(image).__name__}: give a PIL.Image.Image, or a folder of files.")
    _check_size(name, image)
    try:
        with _quiet():
            # A format that holds several pictures may decode another one than the header describes.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image.load()
            return _on_white(_eight_bits(_upright(image), name), image.info.get("icc_profile"))
    except PictureError:
        raise
    # Pillow's decoders raise anything on damaged files: struct.error, IndexError, AttributeError, zlib.error…
    except Exception as error:
        raise _unreadable(name, error) from error


def fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The largest central part of a picture that has the proportions of `size` (width, height), scaled to it."""
    return ImageOps.fit(image, size, Image.Resampling.LANCZOS)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress Pillow's warnings about odd metadata, which is not used."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check_kind(path: Path) -> None:
    """Refuse a pipe or a device, which would block for ever when opened."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise PictureUnreadable(f"{path} does not exist. Correct its name, or put the file there.") from error
    except (OSError, ValueError) as error:
        raise PictureUnreadable(f"{path} cannot be read: {error}.") from error
    if not stat.S_ISREG(mode):
        raise PictureUnreadable(f"{path} is {'a folder' if stat.S_ISDIR(mode) else 'no file'}: name a picture file.")


def _check_size(name: str, image: Image.Image) -> None:
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        raise PictureUnreadable(
            f"{name} has {image.width}x{image.height} pixels; at most {MAX_PIXELS:,} are read. Scale it down."
        )
    if pixels == 0:
        raise PictureUnreadable(f"{name} has {image.width}x{image.height} pixels: there is nothing to see.")


def _unreadable(name: str, reason: object) -> PictureUnreadable:
    said = str(reason) or type(reason).__name__
    return PictureUnreadable(f"{name} cannot be decoded ({said}). Remove it, or save it again as PNG or JPEG.")


def _upright(image: Image.Image) -> Image.Image:
    """The picture turned as the camera was held.

    Pillow's exif_transpose would also rewrite the metadata, which fails if it is odd.
    """
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # the metadata is damaged, but the picture is there
        return image
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _eight_bits(image: Image.Image, name: str) -> Image.Image:
    """The picture with grey of more than 8 bits scaled to 8, which Pillow would clip at white."""
    if image.mode == "F":
        raise PictureUnreadable(
            f"{name} holds floating-point numbers, and nothing says which of them is white: save it as 8-bit PNG."
        )
    if image.mode != "I" and not image.mode.startswith("I;"):
        return image
    values = np.asarray(image).astype(np.int64)
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0 or highest > 0xFFFF:
        raise PictureUnreadable(
            f"{name} holds numbers from {lowest} to {highest}, and nothing says which of them is white: save it as "
            "8- or 16-bit PNG."
        )
    # Pillow's "I" is 32 bits wide, and holds pictures of 8 and of 16 bits.
    white = 255 if image.mode == "I" and highest <= 255 else 0xFFFF
    grey = Image.fromarray(((values * 255 + white // 2) // white).astype(np.uint8))
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey


def _on_white(image: Image.Image, profile: bytes | None) -> Image.Image:
    if image.mode == "LAB":
        return _from_lab(image)
    if image.mode == "La":  # the one mode with transparency that Pillow does not turn into RGBA at once
        image = image.convert("LA")
    if not image.has_transparency_data:
        return _to_srgb(image, profile)
    clear = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(clear, tuple) and max(clear) > 255:
        # Pillow takes the upper eight bits of a 16-bit colour, but not of the one that is transparent.
        image = image.copy()
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    layer = image.convert("RGBA")
    if profile:
        colours = image.convert("L") if image.mode in ("L", "LA") else layer.convert("RGB")
        layer = Image.merge("RGBA", (*_to_srgb(colours, profile).split(), layer.getchannel("A")))
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The picture with the colours of its profile, such as the Display P3 of telephones, converted to sRGB.

    Without a profile, or with an unusable one, its colours are taken for sRGB.
    """
    if image.mode == "P":
        image = image.convert("RGB")
    if profile and image.mode in _COLOUR_SPACES:
        try:
            from PIL import ImageCms

            own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            named = str(own.profile.profile_description or "")
            if own.profile.xcolor_space.strip() == _COLOUR_SPACES[image.mode] and not named.startswith("sRGB"):
                found = ImageCms.profileToProfile(image, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
                if found is not None:
                    return found
        except Exception:  # a Pillow without LittleCMS, or a damaged profile: the picture is there
            return image.convert("RGB")
    return image.convert("RGB")


def _from_lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    found = ImageCms.profileToProfile(
        image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    assert found is not None  # it is None for conversions in place only
    return found
