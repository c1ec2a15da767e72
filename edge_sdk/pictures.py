"""The owner's pictures: a folder of image files with captions, read into memory at one size.

Two layouts are understood. If `metadata.jsonl` is there, it decides (the Hugging Face imagefolder convention): one
JSON object a line with `file_name`, relative to the folder, and `text`; files that it does not name are left alone.
Otherwise every picture needs its caption beside it: `fox.png` and `fox.txt`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import msgspec
from PIL import Image, ImageOps

from edge_sdk.errors import NoPictures, PictureError, PictureUnreadable
from edge_sdk.paths import expanded

METADATA = "metadata.jsonl"
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
# A 64-megapixel photograph still decodes into 192 MB; more is a mistake or an attack.
MAX_PIXELS = 64_000_000
MAX_CAPTION = 2000


@dataclass(frozen=True)
class Picture:
    """One picture to learn from: an RGB image of (size, size) pixels, its caption, and the file it came from."""

    image: Image.Image
    text: str
    path: Path


class _Row(msgspec.Struct, frozen=True):
    file_name: str
    text: str | None = None


def load_pictures(folder: Path | str, size: int) -> list[Picture]:
    """Read every captioned picture of a folder, cropped to its central square and resized to (size, size), RGB.

    Transparent parts become white; the camera's orientation tag is obeyed; of an animation the first frame counts.

    Args:
        folder: the folder of pictures, in one of the two layouts of this module.
        size: side of the square in pixels.

    Raises:
        NoPictures: the folder does not exist or holds no pictures.
        PictureUnreadable: a file is missing, cannot be decoded, or has more than `MAX_PIXELS` pixels.
        PictureError: a caption is missing, `metadata.jsonl` is malformed, or it names a file outside the folder.
    """
    return [Picture(_read(path, size), text, path) for path, text in list_pictures(folder)]


def list_pictures(folder: Path | str) -> list[tuple[Path, str]]:
    """The files and captions that `load_pictures` would read, without decoding them. Raises as it does."""
    folder = expanded(folder)
    if not folder.is_dir():
        raise NoPictures(f"{folder} is not a folder. Give the folder that holds the pictures and their captions.")
    metadata = folder / METADATA
    rows = list(_from_metadata(metadata) if metadata.is_file() else _from_sidecars(folder))
    if not rows:
        raise NoPictures(
            f"{folder} holds no pictures. Add some, with captions in {METADATA} or in .txt files beside them."
        )
    return rows


def _from_metadata(metadata: Path) -> Iterator[tuple[Path, str]]:
    folder = metadata.parent
    try:
        lines = metadata.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PictureError(f"{metadata} cannot be read as UTF-8 text: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{metadata}, line {number}"
        try:
            row = msgspec.json.decode(line, type=_Row)
        except (msgspec.DecodeError, RecursionError) as error:
            raise PictureError(f'{where}: expected {{"file_name": ..., "text": ...}}: {str(error)[:500]}') from error
        path = _inside(folder, row.file_name, where)
        yield path, _caption(row.text, f'{where}: {row.file_name[:200]} has no caption. Add it as "text".', where)


def _from_sidecars(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES:
            continue
        sidecar = path.with_suffix(".txt")
        missing = f"{path} has no caption. Write what it shows into {sidecar.name} beside it."
        try:
            text = sidecar.read_text(encoding="utf-8") if sidecar.is_file() else None
        except (OSError, UnicodeDecodeError) as error:
            raise PictureError(f"{sidecar} cannot be read as UTF-8 text: {error}") from error
        yield path, _caption(text, missing, str(sidecar))


def _caption(text: str | None, missing: str, where: str) -> str:
    text = " ".join((text or "").split())
    if not text:
        raise PictureError(missing)
    if len(text) > MAX_CAPTION:
        raise PictureError(f"{where}: the caption has {len(text)} characters; shorten it to at most {MAX_CAPTION}.")
    return text


def _inside(folder: Path, file_name: str, where: str) -> Path:
    """The file of that name, refused if it lies outside the folder, by its spelling or through a link."""
    outside = f"{where}: {file_name[:200]!r} lies outside the folder. Use names relative to {folder}."
    parts = {*PurePosixPath(file_name).parts, *PureWindowsPath(file_name).parts}
    if not file_name or "\0" in file_name or ".." in parts or PureWindowsPath(file_name).drive:
        raise PictureError(outside)
    path = folder / file_name
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise PictureError(outside)
    return path


def _read(path: Path, size: int) -> Image.Image:
    return ImageOps.fit(open_picture(path, size), (size, size), Image.Resampling.LANCZOS)


def open_picture(path: Path | str, size: int | None = None) -> Image.Image:
    """Decode one file: upright, on white. The size stated in its header is checked before any pixel is.

    size: if no more pixels a side are needed, which saves memory.

    Raises:
        PictureUnreadable: it is not there, cannot be decoded, or has too many pixels.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            # Pillow warns of large pictures at its own limit; ours is stricter and is an error.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
        with image:
            pixels = image.width * image.height
            if pixels > MAX_PIXELS:
                raise PictureUnreadable(
                    f"{path} has {image.width}x{image.height} pixels; at most {MAX_PIXELS:,} are read. Scale it down."
                )
            # A JPEG can be decoded at a fraction of its size, which saves a small device most of the memory.
            if size is not None:
                image.draft("RGB", (2 * size, 2 * size))
            return on_white(ImageOps.exif_transpose(image))
    except FileNotFoundError as error:
        raise PictureUnreadable(f"{path} does not exist. Remove its line or put the file there.") from error
    # Pillow's decoders raise these, and now and then a struct.error or an IndexError, on damaged files.
    except (OSError, ValueError, SyntaxError, ArithmeticError, LookupError, EOFError, MemoryError) as error:
        raise _unreadable(path, error) from error
    except Image.DecompressionBombError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> PictureUnreadable:
    return PictureUnreadable(f"{path} cannot be decoded ({error}). Remove it, or save it again as PNG or JPEG.")


def on_white(image: Image.Image) -> Image.Image:
    """RGB, what is transparent filled with white."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
