"""Captions as people keep them: a text file beside a picture, JSON lines, or a table. Pictures are not read here."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

import msgspec

from edge_sdk.errors import PictureError

MAX_CAPTION = 2000
CAPTION_SUFFIXES = (".txt", ".caption")
JSON_LINES = "metadata.jsonl"
TABLE = "metadata.csv"
_NAME, _TEXT = "file_name", "text"


class Row(NamedTuple):
    """A caption and the name of its picture, as stated in a file. where: file and line, for errors."""

    file_name: str
    text: str
    where: str


class _Row(msgspec.Struct, frozen=True):
    file_name: str
    text: str | None = None


def read_caption(file: Path, missing: str) -> str:
    """The caption in a text file.

    missing: the error's message if it is empty.

    Raises:
        PictureError: the file is empty, too long, or not UTF-8.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _not_text(file, error) from error
    return check_caption(text, missing, str(file))


def check_caption(text: str | None, missing: str, where: str) -> str:
    """Return a caption as one line.

    Raises:
        PictureError: it is empty or too long, or holds a NUL.
    """
    text = " ".join((text or "").split())
    if not text:
        raise PictureError(missing)
    if "\0" in text:
        raise PictureError(f"{where}: the caption is not UTF-8 text. Save it as UTF-8.")
    if len(text) > MAX_CAPTION:
        raise PictureError(f"{where}: the caption has {len(text)} characters; shorten it to at most {MAX_CAPTION}.")
    return text


def find_metadata(folder: Path) -> Path | None:
    """The metadata file of a folder, which names its pictures; None if there is none.

    Raises:
        PictureError: there are two.
    """
    found = [path for path in (folder / JSON_LINES, folder / TABLE) if path.is_file()]
    if len(found) > 1:
        raise PictureError(f"{folder} has both {JSON_LINES} and {TABLE}: remove one of them.")
    return found[0] if found else None


def read_metadata(file: Path) -> Iterator[Row]:
    """Yield the rows of `metadata.jsonl` or `metadata.csv`. Other columns are ignored.

    Raises:
        PictureError: it cannot be read, or a row has no file name or no caption.
    """
    rows = _table if file.name == TABLE else _json_lines
    yield from _lines(file, rows)


def _lines(file: Path, rows: Callable[[TextIO, Path], Iterator[Row]]) -> Iterator[Row]:
    try:
        # Only universal newlines end a line: str.splitlines also breaks at U+2028 and others, which captions may hold.
        with file.open(encoding="utf-8-sig", newline="" if rows is _table else None) as text:
            yield from rows(text, file)
    except (OSError, UnicodeDecodeError) as error:
        raise _not_text(file, error) from error


def _json_lines(text: TextIO, file: Path) -> Iterator[Row]:
    for number, line in enumerate(text, start=1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            row = msgspec.json.decode(line, type=_Row)
        except (msgspec.DecodeError, RecursionError) as error:
            raise PictureError(f'{where}: expected {{"file_name": ..., "text": ...}}: {str(error)[:500]}') from error
        others = () if row.text is not None else msgspec.json.decode(line, type=dict[str, object])
        yield _row(row.file_name, row.text, where, [name for name in others if name != _NAME])


def _table(text: TextIO, file: Path) -> Iterator[Row]:
    reader = csv.DictReader(text, strict=True)
    try:
        columns = [name.strip() for name in reader.fieldnames or ()]
        if _NAME not in columns:
            found = ", ".join(columns)[:200] or "none"
            raise PictureError(f"{file}: expected the columns {_NAME},{_TEXT} in its first line, and found {found}.")
        if twice := [name for name in (_NAME, _TEXT) if columns.count(name) > 1]:
            raise PictureError(f"{file}: there are two columns {twice[0]}: remove or rename one of them.")
        reader.fieldnames = columns
        for row in reader:
            if reader.restkey in row:
                raise PictureError(
                    f"{file}, line {reader.line_num}: there are more cells than columns. A caption that holds commas "
                    'stands in quotation marks: fox.png,"a fox, asleep".'
                )
            others = [name for name in columns if name not in (_NAME, _TEXT)] if _TEXT not in columns else []
            yield _row(row[_NAME] or "", row.get(_TEXT), f"{file}, line {reader.line_num}", others)
    except csv.Error as error:
        raise PictureError(f"{file}, line {reader.line_num}: no table with commas: {error}.") from error


def _row(file_name: str, text: str | None, where: str, others: list[str]) -> Row:
    hint = f' It has {", ".join(others)[:200]}: rename what holds the caption to "{_TEXT}".' if others else ""
    missing = f'{where}: {file_name[:200]} has no caption. Add it as "{_TEXT}".{hint}'
    return Row(file_name, check_caption(text, missing, where), where)


def _not_text(file: Path, error: Exception) -> PictureError:
    if isinstance(error, UnicodeDecodeError):
        return PictureError(f"{file} cannot be read as UTF-8 text: {error}. Save it as UTF-8.")
    return PictureError(f"{file} cannot be read: {error}.")
