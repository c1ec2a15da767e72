"""Which files are pictures: what Pillow and its plugins decode, told by content."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Collection
from functools import cache
from pathlib import Path

from PIL import Image

# Pillow does not find its plugins by itself. Module -> the function that registers it; None if importing it does.
_PLUGINS = {"pillow_heif": "register_heif_opener", "pi_heif": "register_heif_opener", "pillow_jxl": None}
# EPS runs Ghostscript on the file; the others are recognised by Pillow, but not decoded.
_REFUSED = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
# Formats whose first bytes cannot be taken for another's: a file without a picture's name is one if it is of these.
_UNMISTAKABLE = frozenset({"AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "JXL", "MPO", "PNG", "TIFF", "WEBP"})
# What cameras, telephones and drawing programs write beside what Pillow decodes.
_FOREIGN = frozenset({
    ".3gp", ".arw", ".avi", ".avif", ".cr2", ".cr3", ".dng", ".heic", ".heics", ".heif", ".hif", ".jxl", ".m4v", ".mkv",
    ".mov", ".mp4", ".nef", ".orf", ".raf", ".rw2", ".svg", ".webm", ".xcf",
})  # fmt: skip
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_HEIC = 'HEIC needs one more package: pip install "impasto[heic]"'


def readable() -> list[str]:
    """Names of the formats that can be read here, as Pillow calls them."""
    Image.init()
    _register_plugins()
    return [name for name in Image.OPEN if name not in _REFUSED]


def has_picture_suffix(path: Path) -> bool:
    """Whether a file's name promises a picture that can be read here."""
    names = readable()
    return Image.registered_extensions().get(path.suffix.lower()) in names


def has_foreign_suffix(path: Path) -> bool:
    """Whether a file's name promises a picture or a film of a kind that Pillow alone may not read."""
    return path.suffix.lower() in _FOREIGN or path.suffix.lower() in Image.registered_extensions()


def is_picture(path: Path, *, unmistakable: bool = False) -> bool:
    """Whether a file's first bytes are those of a picture that can be read here; of any name, and not decoded.

    unmistakable: leave out formats that other files may look like.
    """
    names = readable()
    among: Collection[str] = [name for name in names if name in _UNMISTAKABLE] if unmistakable else names
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.open(path, formats=list(among)).close()
    except Exception:  # it is being asked whether Pillow can make something of it
        return False
    return True


def what_it_is(path: Path) -> str | None:
    """What a file that Pillow does not know is instead, and what to do about it; None if that is not known either."""
    try:
        with path.open("rb") as file:
            head = file.read(256)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    if not head:
        return "it is empty"
    if head[4:8] == b"ftyp":
        if head[8:12] in (b"avif", b"avis"):
            return (
                "it is a damaged AVIF" if "AVIF" in readable() else "AVIF needs a newer Pillow: pip install -U pillow"
            )
        return _HEIC if head[8:12] in _HEIC_BRANDS else "it is a film, or a picture that Pillow does not decode"
    if head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        return "JPEG XL needs one more package: pip install pillow-jxl-plugin"
    if head.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS: git lfs pull"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "it is a web page: download the picture itself"
    return None


@cache
def _register_plugins() -> None:
    for module, function in _PLUGINS.items():
        try:
            plugin = importlib.import_module(module)
        except ImportError:  # not installed, or not for this Pillow
            continue
        if function is not None:
            getattr(plugin, function)()
