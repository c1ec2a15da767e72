"""Picture formats: the files that Pillow and its plugins decode, recognised by content."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Collection
from functools import cache
from pathlib import Path

from PIL import Image

# Plugins, which Pillow does not find by itself: module -> its registering function; None if importing registers it.
_PLUGINS = {"pillow_heif": "register_heif_opener", "pi_heif": "register_heif_opener", "pillow_jxl": None}
# Formats that are not read: EPS runs Ghostscript on the file; Pillow recognises the others, but cannot decode them.
_REFUSED = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
# Formats whose first bytes are unmistakable: such a file is a picture even if its name is not a picture's.
_UNMISTAKABLE = frozenset({"AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "JXL", "MPO", "PNG", "TIFF", "WEBP"})
# Suffixes that cameras, telephones and drawing programs write, and that Pillow alone does not decode.
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
    """True if a file has the suffix of a format that can be read here."""
    names = readable()
    return Image.registered_extensions().get(path.suffix.lower()) in names


def has_foreign_suffix(path: Path) -> bool:
    """True if a file has the suffix of a picture or film format that Pillow alone may not read."""
    return path.suffix.lower() in _FOREIGN or path.suffix.lower() in Image.registered_extensions()


def is_picture(path: Path, *, unmistakable: bool = False) -> bool:
    """True if a file's first bytes are those of a picture that can be read here. Its name and pixels do not count.

    unmistakable: count only formats that no other file looks like.
    """
    names = readable()
    among: Collection[str] = [name for name in names if name in _UNMISTAKABLE] if unmistakable else names
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.open(path, formats=list(among)).close()
    except Exception:  # whatever Pillow raises, it cannot read the file
        return False
    return True


def what_it_is(path: Path) -> str | None:
    """Words on a file that Pillow does not recognise: its kind, and what to do about it; None for an unknown kind."""
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
