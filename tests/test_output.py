"""Where a command writes pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from edge_sdk.cli.output import checked_output


def test_the_folder_is_made_before_anything_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "fox.PNG"
    assert checked_output(path) == path
    assert path.parent.is_dir()


@pytest.mark.parametrize("name", ["fox", "fox.txt", "fox.psd"])
def test_formats_that_cannot_be_written_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match=r"use \.png"):
        checked_output(tmp_path / "new" / name)
    assert list(tmp_path.iterdir()) == []
