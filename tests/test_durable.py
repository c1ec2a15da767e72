"""Files that appear whole or not at all, on disks that are full and in places that cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_sdk import durable
from edge_sdk.errors import describe


def test_a_full_disk_names_the_file_and_leaves_what_was_there(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: the system refuses the writes in the same way."""
    file = tmp_path / "a.png"
    file.write_bytes(b"earlier")
    code = (
        "import resource; from pathlib import Path; from edge_sdk import durable\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"durable.write(Path({str(file)!r}), bytes(100_000))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert said == f"OSError: [Errno 27] File too large; free some room there: {str(file)!r}"
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.png", b"earlier")]


def test_a_private_folder_is_its_owners_alone_and_so_are_parents_that_were_missing(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir(0o755)
    folder = tmp_path / "there" / "home" / "prior"
    durable.private_folder(folder)
    durable.private_folder(folder)
    modes = [place.stat().st_mode & 0o777 for place in (folder, folder.parent, folder.parent.parent)]
    assert modes == [0o700, 0o700, 0o755]
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        durable.private_folder(tmp_path / "file")


def test_a_private_file_is_made_once(tmp_path: Path) -> None:
    durable.private_file(tmp_path / "file")
    (tmp_path / "file").write_text("kept")
    durable.private_file(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk/file")
    durable.check(tmp_path / "link")
    durable.write(tmp_path / "link", b"content")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "file").read_bytes() == b"content"
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["file"]


def test_a_device_is_written_into_and_stays_one() -> None:
    reader, writer = os.openpty()
    try:
        path = Path(os.ttyname(writer))
        durable.check(path)
        durable.write(path, b"{}\n")
        assert os.read(reader, 10).split() == [b"{}"]
        assert path.is_char_device()
    finally:
        os.close(reader)
        os.close(writer)


def test_the_longest_names_that_a_disk_takes_are_written(tmp_path: Path) -> None:
    file = tmp_path / ("ü" * 127)
    durable.check(file)
    durable.write(file, b"content")
    assert file.read_bytes() == b"content"


def test_looking_leaves_nothing_behind_but_the_folder(tmp_path: Path) -> None:
    durable.check(tmp_path / "new" / "file")
    assert [path.name for path in tmp_path.rglob("*")] == ["new"]


@pytest.mark.parametrize("name", ["folder", "file/inside", "/proc/inside", "x" * 300])
def test_places_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    for act in (durable.check, lambda path: durable.write(path, b"")):
        with pytest.raises(OSError, match="Errno") as raised:
            act(tmp_path / name)
        assert describe(raised.value).startswith(f"{tmp_path / name}: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
