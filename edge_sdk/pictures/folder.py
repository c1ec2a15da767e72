"""A folder of captioned pictures, read into memory at one size.

Three layouts are supported.
- `metadata.jsonl` or `metadata.csv`, which takes precedence (the Hugging Face imagefolder convention): one JSON object
  per line, or a table, with `file_name`, relative to the folder, and `text`. Files that it does not name are ignored.
- A caption beside every picture: `fox.png` and `fox.txt` (or `fox.caption`, `fox.png.txt`).
- kohya's sub-folders, `10_fox/`, in a folder without pictures of its own. The folder's words are the caption of
  pictures that have none. Repeat counts must be equal, as every picture counts once here; a folder with 0 is left out.

A picture is recognised by its content, and by its suffix if the content is damaged. Hidden files are ignored, and
nothing outside the folder is read.
"""

from __future__ import annotations

import os
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from unicodedata import normalize

from PIL import Image

from edge_sdk.errors import NoPictures, PictureError, PictureUnreadable
from edge_sdk.paths import expanded
from edge_sdk.pictures.captions import (
    CAPTION_SUFFIXES,
    JSON_LINES,
    Row,
    find_metadata,
    read_caption,
    read_metadata,
)
from edge_sdk.pictures.formats import has_foreign_suffix, has_picture_suffix, is_picture, what_it_is
from edge_sdk.pictures.reader import fit, open_picture

_REPEATED = re.compile(r"(\d+)_(.+)", re.DOTALL)
_MOST_NAMED = 5


class PictureLeftOut(UserWarning):
    """Files that look like pictures are not used; the message names them and says why."""


@dataclass(frozen=True)
class Picture:
    """A picture to learn from: an RGB image of (size, size) pixels, its caption, and its file."""

    image: Image.Image
    text: str
    path: Path


def load_pictures(folder: Path | str, size: int) -> list[Picture]:
    """Read every captioned picture of a folder, cropped to its central square and resized to (size, size), RGB.

    See `edge_sdk.pictures.to_rgb` for transparency, orientation and depth.

    Args:
        folder: the folder of pictures, in one of the layouts of this module.
        size: side of the square in pixels.

    Warns:
        PictureLeftOut: files that look like pictures are not used.

    Raises:
        NoPictures: the folder does not exist or holds no pictures.
        PictureUnreadable: a file is missing, cannot be decoded, or has more than `MAX_PIXELS` pixels.
        PictureError: a caption is missing or stated twice, the metadata is malformed, a file lies outside the folder,
            or repeat counts differ.
    """
    return [Picture(fit(open_picture(path, size), (size, size)), text, path) for path, text in list_pictures(folder)]


def list_pictures(folder: Path | str) -> list[tuple[Path, str]]:
    """The files and captions that `load_pictures` would read, without decoding them. Warns and raises as it does."""
    folder = expanded(folder)
    if not folder.is_dir():
        raise NoPictures(f"{folder} is not a folder. Give the folder that holds the pictures and their captions.")
    found = _Found(folder)
    try:
        metadata = find_metadata(folder)
        rows = list(_named(metadata)) if metadata else _beside(folder, found) or _repeated(folder, found)
    except OSError as error:
        raise PictureError(f"{folder} cannot be read: {error}.") from error
    if not rows:
        reasons = f" Left out: {found.describe()}." if found.left_out else ""
        raise NoPictures(
            f"{folder} holds no pictures. Add some, with captions in {JSON_LINES} or in .txt files beside them."
            f"{reasons}"
        )
    if found.left_out:
        warnings.warn(f"{folder}: left out: {found.describe()}.", PictureLeftOut, stacklevel=2)
    return rows


@dataclass(frozen=True)
class _Found:
    """Files that are left out of a folder: reason -> names."""

    folder: Path
    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def leave_out(self, path: Path, reason: str) -> None:
        self.left_out[reason].append(str(path.relative_to(self.folder)))

    def describe(self) -> str:
        return "; ".join(f"{_listed(names)} ({reason})" for reason, names in self.left_out.items())


def _listed(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    shown = ", ".join(name[:100] for name in names[:_MOST_NAMED])
    return f"{shown} and {more} more" if more > 0 else shown


def _named(metadata: Path) -> Iterator[tuple[Path, str]]:
    """The pictures that a metadata file names."""
    folder = metadata.parent
    _check_inside(folder, metadata)
    lines: dict[str, str] = {}
    for row in read_metadata(metadata):
        path = _resolved(folder, row)
        earlier = lines.setdefault(os.path.realpath(path), row.where)
        if earlier is not row.where:
            raise PictureError(
                f"{row.where}: {row.file_name[:200]} has a caption already, in {earlier}. "
                "Keep one line for each picture."
            )
        yield path, row.text


def _beside(folder: Path, found: _Found, words: str = "") -> list[tuple[Path, str]]:
    """The pictures of a folder with captions beside them.

    words: the caption of pictures that have none.
    """
    paths = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    captions: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        if path.suffix.lower() in CAPTION_SUFFIXES and path.is_file():
            captions[normalize("NFC", path.stem)].append(path)
    rows: list[tuple[Path, str]] = []
    for path in paths:
        if path.suffix.lower() in CAPTION_SUFFIXES:
            continue
        own = _own_captions(path, captions)
        if path.is_dir():
            if has_picture_suffix(path):
                found.leave_out(path, "it is a folder")
            continue
        reason = _why_not(path, captioned=bool(own))
        if reason is None:
            rows.append((path, _text_of(folder, path, own, words)))
        elif reason:
            found.leave_out(path, reason)
    if rows or words:
        for path in paths:
            if path.is_dir():
                reason = "it is a sub-folder" + (", and there are pictures beside it" if rows else " of a sub-folder")
                _leave_out_folder(path, found, reason)
    return rows


def _leave_out_folder(path: Path, found: _Found, reason: str) -> None:
    """Note a sub-folder as left out if it holds pictures, or cannot be read, such as a card's lost+found."""
    try:
        if any(has_picture_suffix(file) for file in path.iterdir()):
            found.leave_out(path, reason)
    except OSError as error:
        found.leave_out(path, f"it cannot be read: {error.strerror}")


def _own_captions(path: Path, captions: dict[str, list[Path]]) -> list[Path]:
    """Caption files of a picture: those of exactly its name, or else of a name equal in Unicode's normal form.

    Some tools keep the picture's suffix in the name of the caption.
    """
    names = dict.fromkeys((path.stem, path.name))
    alike = [file for name in names for file in captions.get(normalize("NFC", name), [])]
    return [file for file in alike if file.stem in names] or alike


def _why_not(path: Path, *, captioned: bool) -> str | None:
    """Return the reason why a file is no picture to learn from: None if it is one, "" if it does not look like one."""
    named = has_picture_suffix(path)
    likely = named or captioned or has_foreign_suffix(path)
    if not path.is_file():
        reason = "a link to nothing" if path.is_symlink() else "not a regular file"
        return reason if likely else ""
    if named or is_picture(path, unmistakable=not captioned):
        return None  # a damaged picture by its name: decoding it raises the error
    return (what_it_is(path) or "Pillow does not decode it") if likely else ""


def _text_of(folder: Path, path: Path, own: list[Path], words: str) -> str:
    _check_inside(folder, path)
    if not own:
        if words:
            return words
        raise PictureError(_no_caption(path, path.with_suffix(".txt")))
    if len(own) > 1:
        names = " and ".join(file.name for file in own)
        raise PictureError(f"{path} has two captions, {names}: remove one of them.")
    _check_inside(folder, own[0])
    return read_caption(own[0], _no_caption(path, own[0]))


def _no_caption(path: Path, file: Path) -> str:
    return f"{path} has no caption. Write what it shows into {file.name} beside it."


def _repeated(folder: Path, found: _Found) -> list[tuple[Path, str]]:
    """The pictures of kohya's sub-folders, if there are any."""
    rows: list[tuple[Path, str]] = []
    counts: dict[int, str] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_dir():
            continue
        match = _REPEATED.fullmatch(path.name)
        if match is None:
            _leave_out_folder(path, found, "it is a sub-folder: give that folder itself")
            continue
        if not int(match[1]):
            _leave_out_folder(path, found, "its repeat count is 0")
            continue
        _check_inside(folder, path)
        words = " ".join(match[2].replace("_", " ").split())
        own = _beside(path, found, words)
        if own:
            counts.setdefault(int(match[1]), path.name)
            rows += own
    if len(counts) > 1:
        stated = " and ".join(f"{name}/" for name in counts.values())
        raise PictureError(
            f"{folder}: the repeat counts of {stated} differ, and every picture counts once here: give those folders "
            "the same number, or learn from one of them."
        )
    return rows


def _resolved(folder: Path, row: Row) -> Path:
    """The file that a row names; PictureError if it is outside the folder, by its name or through a link."""
    parts = {*PurePosixPath(row.file_name).parts, *PureWindowsPath(row.file_name).parts}
    absolute = PurePosixPath(row.file_name).is_absolute() or PureWindowsPath(row.file_name).drive
    if not row.file_name or "\0" in row.file_name or ".." in parts or absolute:
        raise PictureError(_outside(row.where, row.file_name, folder))
    spellings = [row.file_name, row.file_name.replace("\\", "/")]
    exact = [folder / spelling for spelling in spellings if os.path.lexists(folder / spelling)]
    path = exact[0] if exact else _of_equal_name(folder, spellings[-1])
    if path is None:
        raise PictureUnreadable(
            f"{row.where}: {folder / row.file_name} does not exist. Remove its line or put the file there."
        )
    if not _is_inside(folder, path):
        raise PictureError(_outside(row.where, row.file_name, folder))
    if not path.is_file():
        raise PictureUnreadable(f"{row.where}: {path} is not a file. Remove its line or put the picture there.")
    return path


def _of_equal_name(folder: Path, name: str) -> Path | None:
    """The file of that name in another of Unicode's normal forms, as file systems and editors disagree about them.

    None if there is none.
    """
    path = folder
    for part in PurePosixPath(name).parts:
        alike = [each for each in path.iterdir() if normalize("NFC", each.name) == normalize("NFC", part)]
        if len(alike) != 1:
            return None
        path = alike[0]
        if not path.is_dir():
            break
    return path if path.is_file() else None


def _check_inside(folder: Path, path: Path) -> None:
    if not _is_inside(folder, path):
        raise PictureError(f"{path} is a link out of the folder. Put a copy there: only {folder} itself is read.")


def _is_inside(folder: Path, path: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _outside(where: str, file_name: str, folder: Path) -> str:
    return f"{where}: {file_name[:200]!r} lies outside the folder. Use names relative to {folder}."
