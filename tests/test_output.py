"""Checks of the place that a command writes pictures to."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from edge_sdk.cli.output import checked_output
from edge_sdk.errors import OutputError


def test_the_folder_is_made_before_anything_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "fox.PNG"
    assert checked_output(path) == path
    assert path.parent.is_dir()


@pytest.mark.parametrize("name", ["", "fox.png"])
def test_a_folder_is_no_place_for_a_picture(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir(exist_ok=True)
    with pytest.raises(OutputError, match=r"is a folder: name the file, such as --out .*picture\.png"):
        checked_output(tmp_path / name)


@pytest.mark.parametrize("path", ["/proc/fox.png", f"{'x' * 300}.png", "file/fox.png"])
def test_places_that_cannot_be_written_are_found_out(path: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match=r"Cannot write .*\.png: .* Name another place with --out"):
        checked_output(tmp_path / path)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["fox", "fox.txt", "fox.psd", "fox.xbm", "fox.msp", "fox.blp", "fox.h5", "fox.wmf"])
def test_formats_that_cannot_be_written_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match=r"use \.png"):
        checked_output(tmp_path / "new" / name)
    assert list(tmp_path.iterdir()) == []
